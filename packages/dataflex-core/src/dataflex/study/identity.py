"""What tells the result of a run from any other: keys with defaults filled in, contents of data and models.

Where things lie, what is only shown and versions of libraries are no part of it. The steps of a run count, not the key
that says them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.checkpoint_keys import models
from dataflex.checkpoint_keys.at_work import COMPONENT_PARAMS
from dataflex.checkpoint_keys.held import MODELS
from dataflex.checkpoint_keys.keys import group_of
from dataflex.config.names import listed
from dataflex.config.plan import Part, PreparedRun
from dataflex.config.run import COMPONENTS, RunFile
from dataflex.paths import LISTS_OF_PATHS, PATH_KEYS, user_path
from dataflex.phases.content import data_identity, file_digest, model_content, plain
from dataflex.runs import TrainType
from dataflex.study.lengths import LENGTH_KEYS

_PLACES = frozenset({"dataset_dir", "media_dir", "components_cfg_file", "plugins"})
_FROM = "from:"
_OWN_PARAMS = frozenset({"cache_dir", "output_dir"})

Identity = Mapping[str, Any]
"""By the name of a key, ``data:NAME`` of a data set or ``model:KEY`` of a model: JSON values."""


def identity(run: RunFile, prepared: PreparedRun | None, steps: int | None, defaults: Mapping[str, Any]) -> Identity:
    """What a run's result depends on.

    Args:
        run: Its run file.
        prepared: The same with its parameters bound; ``None`` for a static run, or one of a command.
        steps: Its optimizer steps; ``None`` where only the data tells.
        defaults: LlamaFactory's keys with their defaults.
    """
    given = {**run.llamafactory, **(run.ours if prepared is None else _bound(run, prepared))}
    found = {
        key: plain(value) for key, value in given.items() if _counts(key) and not _is_default(value, key, defaults)
    }
    if steps is not None:
        found = {key: value for key, value in found.items() if key not in LENGTH_KEYS} | {"steps": steps}
    found |= {key: _content(value) for key, value in found.items() if _may_be_a_file(key)}
    params = found.get(COMPONENT_PARAMS)
    if isinstance(params, Mapping):
        found[COMPONENT_PARAMS] = {name: _content(value) for name, value in params.items() if name not in _OWN_PARAMS}
    for key in MODELS:
        for path in listed(run.llamafactory.get(key)):
            found[f"model:{key}"] = [*found.get(f"model:{key}", []), model_content(path)]
    found |= dict(data_identity(run.llamafactory))
    return {key: found[key] for key in sorted(found)}


def fingerprint(of: Identity) -> str:
    """An identity as one short text."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def changes(before: Identity, now: Identity) -> list[str]:
    """What differs between two identities, each with both values."""
    return [
        f"{_named(key)} was {_short(before.get(key))} and is now {_short(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _named(key: str) -> str:
    kind, _, name = key.partition(":")
    return f"the content of {name}" if name and kind in ("data", "model") else key


def _bound(run: RunFile, prepared: PreparedRun) -> dict[str, Any]:
    """Our keys with the component found and its parameters bound, whichever way they were written."""
    plan, ours = prepared.facts, dict(run.ours)
    if plan.train_type is TrainType.COMPOSED:
        return ours | {COMPONENTS: {part.kind.value: _part(part) for part in prepared.parts}}
    ours |= {"train_type": plan.train_type.value, "component_name": plan.component.name}
    ours[COMPONENT_PARAMS] = {**plan.params, **prepared.bound.run_values}
    return ours


def _part(part: Part) -> dict[str, Any]:
    params = {**part.bound.values, **part.bound.run_values}
    return {"name": part.entry.spec.name, "params": params, "every": part.every, "keep": part.keep}


def _counts(key: str) -> bool:
    group = group_of(key)
    return key not in _PLACES and key not in MODELS and (group is None or group.decides)


def _is_default(value: Any, key: str, defaults: Mapping[str, Any]) -> bool:
    return value is None or (key in defaults and plain(defaults[key]) == plain(value))


def _may_be_a_file(key: str) -> bool:
    return key in PATH_KEYS or key in LISTS_OF_PATHS or key == "init_mixture_proportions"


def _content(value: Any) -> Any:
    """What a file or model holds, in place of where it lies; anything else as it is."""
    if not isinstance(value, str) or not value:
        return value
    path = user_path(value.removeprefix(_FROM).strip())
    try:
        if path.is_file():
            return file_digest(path)
        return models.identity(path) if path.is_dir() and models.is_model(path) else value
    except OSError:
        return value


def _short(value: Any) -> str:
    text = "not given" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def alike(of: Mapping[str, Identity]) -> Sequence[tuple[str, str]]:
    """Pairs of arms whose runs would be the same."""
    names = list(of)
    return [
        (first, second) for place, first in enumerate(names) for second in names[place + 1 :] if of[first] == of[second]
    ]
