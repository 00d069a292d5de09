"""``--draw``: the rows that a data set keeps are drawn as the selector itself draws, not the best of them."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from dataflex.config.bind import BoundParams, schema
from dataflex.config.prepared import PreparedRun
from dataflex.errors import ConfigError

MODE, SAMPLE = "mode", "sample"


def that_draws(prepared: PreparedRun) -> PreparedRun:
    """The run with its selector told to draw: ``mode: sample`` where it has one, and each row read once.

    Raises:
        ConfigError: when the selector draws nothing, or its parameters do not go with ``mode: sample``.
    """
    part, spec = prepared.parts[0], prepared.entry.spec
    kinds = {info.name: info.annotation for info in schema(part.entry)}
    changes: dict[str, Any] = {}
    if SAMPLE in typing.get_args(kinds.get(MODE)):
        changes[MODE] = SAMPLE
    elif not spec.stochastic:
        raise ConfigError(
            f"--draw: selector {spec.name!r} has no mode: sample and draws nothing. Leave --draw out to keep the rows "
            "of highest score."
        )
    if "passes" in kinds:
        changes["passes"] = 1
    bound = _changed(part.bound, changes)
    facts = dataclasses.replace(prepared.facts, params=bound.values)
    parts = (dataclasses.replace(part, bound=bound), *prepared.parts[1:])
    return dataclasses.replace(prepared, facts=facts, parts=parts)


def _changed(bound: BoundParams, changes: dict[str, Any]) -> BoundParams:
    params = bound.params
    try:
        if params is not None:
            params = dataclasses.replace(params, **changes)
    except ConfigError as error:
        raise ConfigError(f"--draw asks for mode: sample: {error}") from error
    sources = {**bound.sources, **dict.fromkeys(changes, "--draw")}
    return dataclasses.replace(bound, params=params, values={**bound.values, **changes}, sources=sources)
