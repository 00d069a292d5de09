"""The components of a run as its file asks for them: ``component_name``, or several under ``components``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dataflex.config.gathering import Gathered
from dataflex.config.keys import COMPONENT_KEYS, COMPONENTS
from dataflex.config.numbers import is_number
from dataflex.config.run import COMMAND_LINE, RunFile
from dataflex.config.written import Written
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.kinds import KINDS, Kind, StepKeys, enumerated, in_turn
from dataflex.runs import TrainType

PARAMS = "component_params"
STAGE = "stage"
"""The value of ``keep`` that chooses as many rows as are trained on."""


@dataclass(frozen=True)
class Chosen:
    """One component that a run file asks for.

    Attributes:
        kind: Its kind.
        key: Where it is named, for messages.
        params_key: Where its parameters are.
        name: As it is named: a component or a preset.
        params: Its parameters, as written.
        every: At which boundaries it is asked.
        keep: How much a selector keeps.
        written: What words and numbers of its parameters were written as.
    """

    kind: Kind
    key: str
    params_key: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    keep: float | str = STAGE
    written: Written = field(default_factory=Written)

    def layers(self, run: RunFile) -> list[tuple[str, dict[str, Any]]]:
        """Its parameters as the run file has them, and then as the command line has them."""
        typed = {name: value for name, value in self.params.items() if f"{self.params_key}.{name}" in run.overridden}
        written = {name: value for name, value in self.params.items() if name not in typed}
        return [(run.path.name, written), (COMMAND_LINE, typed)]


def choose(run: RunFile, problems: Gathered) -> list[Chosen]:
    """The components that a run asks for, as far as they are right, in the order in which they decide.

    Args:
        run: The run file, of a train type with components to choose.
        problems: Takes what is wrong.
    """
    if run.train_type is not TrainType.COMPOSED:
        return list(_single(run, problems))
    for key in ("component_name", PARAMS):
        with problems.taking():
            if run.ours.get(key) is not None:
                raise ConfigError(
                    f"{key} (from {run.origin(key)}) names the only component of a run, and train_type: dynamic has "
                    f"{COMPONENTS}. Move it there, or use another train_type."
                )
    given = run.ours.get(COMPONENTS)
    with problems.taking():
        if not isinstance(given, Mapping) or not any(value is not None for value in given.values()):
            kinds = enumerated(in_turn(Kind), "or")
            raise ConfigError(
                f"{COMPONENTS} (from {run.origin(COMPONENTS)}) names no component, and train_type: dynamic needs at "
                f"least one: {kinds}."
            )
        return list(_several(run, given, problems))
    return []


def refuse_other_form(run: RunFile, problems: Gathered) -> None:
    """Refuse ``components`` under a train type that has one component."""
    with problems.taking():
        if run.train_type is not TrainType.COMPOSED and run.ours.get(COMPONENTS) is not None:
            raise ConfigError(
                f"{COMPONENTS} (from {run.origin(COMPONENTS)}) belongs to train_type: dynamic, and this run has "
                f"train_type: {run.train_type.value}. Use one of the two forms."
            )


def _single(run: RunFile, problems: Gathered) -> Iterator[Chosen]:
    kind, name = run.train_type.kind, None
    assert kind is not None  # of a train type with a component to choose
    with problems.taking():
        name = run.component_name()
    params = inline_params(run, problems)
    if name is not None:
        yield Chosen(kind, "component_name", PARAMS, name, params, written=run.written)


def inline_params(run: RunFile, problems: Gathered) -> dict[str, Any]:
    """``component_params``; empty if they are no mapping."""
    params = run.ours.get(PARAMS)
    with problems.taking():
        if not isinstance(params, dict | None):
            raise ConfigError(f"{PARAMS}: {params!r} (from {run.origin(PARAMS)}) must be a mapping of names to values.")
    return dict(params) if isinstance(params, dict) else {}


def _several(run: RunFile, given: Mapping[Any, Any], problems: Gathered) -> Iterator[Chosen]:
    kinds = in_turn(Kind)
    for key in given:
        with problems.taking():
            if key not in list(Kind):
                hint = did_you_mean(str(key), [kind.value for kind in kinds])
                raise ConfigError(
                    f"{COMPONENTS}.{key} (from {run.origin(f'{COMPONENTS}.{key}')}) is no kind of component.{hint} "
                    f"There are {', '.join(kinds)}."
                )
    for kind in kinds:
        if given.get(kind) is not None:
            with problems.taking():
                yield _one(run, kind, given[kind], problems)


def _one(run: RunFile, kind: Kind, given: Any, problems: Gathered) -> Chosen:
    key = f"{COMPONENTS}.{kind}"
    origin = run.origin(key)
    if isinstance(given, (list, tuple)):
        raise ConfigError(
            f"{key} (from {origin}) names {len(given)} components, and a run has at most one of a kind. Name one."
        )
    entry: Mapping[Any, Any] = given if isinstance(given, Mapping) else {"name": given}
    known = [each.name for each in COMPONENT_KEYS]
    for name in entry:
        with problems.taking():
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise ConfigError(f"{key} (from {origin}) has the unknown key {name!r}.{hint}")
    params = entry.get("params")
    with problems.taking():
        if params is not None and not isinstance(params, Mapping):
            params, shown = None, params
            raise ConfigError(f"{key}.params: {shown!r} (from {origin}) must be a mapping of names to values.")
    every, keep = 1, STAGE
    with problems.taking():
        every = _every(run, kind, entry.get("every"))
    with problems.taking():
        keep = _keep(run, kind, entry.get("keep"))
    place = (COMPONENTS, kind.value, *(("name",) if isinstance(given, Mapping) else ()))
    name = run.written.take_names(entry.get("name"), str, *place)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{key}.name: {name!r} (from {origin}) must be the name of a component.")
    texts = run.written.under(COMPONENTS, kind.value, "params").below(PARAMS)
    return Chosen(kind, key, f"{key}.params", name, dict(params or {}), every, keep, texts)


def _every(run: RunFile, kind: Kind, given: Any) -> int:
    key = f"{COMPONENTS}.{kind}.every"
    if given is None:
        return 1
    if set(KINDS[kind].train_types.values()) == {StepKeys.EVERY_STEP}:
        raise ConfigError(f"{key} (from {run.origin(key)}): {kind.with_article} acts in every step. Leave it out.")
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f"{key}: {given!r} (from {run.origin(key)}) must be a whole number of at least 1.")
    return given


def _keep(run: RunFile, kind: Kind, given: Any) -> Any:
    key = f"{COMPONENTS}.{kind}.keep"
    if given is None:
        return STAGE
    if not KINDS[kind].keeps:
        raise ConfigError(f"{key} (from {run.origin(key)}): {kind.with_article} keeps no rows. Leave it out.")
    if given == STAGE:
        return STAGE
    if not is_number(given) or not 0 < given <= 1:
        raise ConfigError(f"{key}: {given!r} (from {run.origin(key)}) must be stage, or a share above 0 and at most 1.")
    return float(given)
