"""Arguments as a parser left them, as JSON values; which of them the user gave."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dataflex.paths import user_path
from dataflex.record.run import hide_secrets

_DEEPSPEED = ("optimizer", "scheduler", "fp16", "bf16")
_STAGE = "zero_optimization.stage"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments as a parser left them.

    Attributes:
        values: By name, JSON values; secrets hidden.
        given: Those that the user gave.
        objects: The objects they were read from: what loads a model may put a local folder in the place of a name.
    """

    values: Mapping[str, Any]
    given: frozenset[str]
    objects: Sequence[Any] = ()

    @classmethod
    def read(cls, objects: Iterable[Any], given: Collection[str] | None = None) -> Arguments:
        """Read dataclasses of arguments.

        Args:
            objects: In order; of a name that several have, the first counts.
            given: What the user gave; ``None`` takes whatever differs from its default.
        """
        objects = [item for item in objects if dataclasses.is_dataclass(item)]
        values: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for item in objects:
            for field in dataclasses.fields(item):
                if field.init and field.name not in values and hasattr(item, field.name):
                    values[field.name] = _plain(field.name, getattr(item, field.name))
                    defaults[field.name] = _plain(field.name, _default(field))
        values, defaults = hide_secrets(values), hide_secrets(defaults)
        differing = {name for name, value in values.items() if value != defaults[name]}
        return cls(values, frozenset(differing if given is None else set(given) & values.keys()), objects)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _plain(name: str, value: Any) -> Any:
    """An argument as a JSON value."""
    if name == "deepspeed":
        return _deepspeed(value)
    try:
        return json.loads(json.dumps(value.to_dict() if hasattr(value, "to_dict") else value, default=str))
    except (TypeError, ValueError):  # names that are no text, a value that holds itself
        return str(value)


def _deepspeed(value: Any) -> Any:
    """What of DeepSpeed's configuration a checkpoint depends on, whether it was given as a file or in place."""
    if isinstance(value, str) and value:
        try:
            value = json.loads(user_path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return value
    if not isinstance(value, Mapping):
        return None if not value else str(value)
    zero = value.get("zero_optimization")
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    kept = {name: value[name] for name in _DEEPSPEED if name in value}
    return json.loads(json.dumps({_STAGE: stage, **kept}, default=str))
