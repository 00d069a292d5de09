"""Records of JSON values: a dataclass of an object whose fields have the types it declares. Standard library only."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar, cast

Record = TypeVar("Record")
_UNIONS = (typing.Union, types.UnionType)
_MOST = 2**63  # numbers of records go into arrays of 64 bits


def from_fields(cls: type[Record], raw: Any) -> Record:
    """Make a dataclass of a JSON object; what it does not declare (fields of a later schema) is ignored.

    Raises:
        ValueError: names the field that is missing or holds something else.
    """
    if not isinstance(raw, dict):
        raise ValueError("it is not an object")
    values, hints = {}, typing.get_type_hints(cls)
    for field in dataclasses.fields(cast(Any, cls)):
        if field.name in raw:
            values[field.name] = _typed(raw[field.name], hints[field.name], field.name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{field.name!r} is missing")
    return cls(**values)


def _typed(value: Any, hint: Any, name: str) -> Any:
    """The value as a field of that type holds it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in _UNIONS:
        return _one_of(value, inner, name)
    if origin is Mapping and isinstance(value, dict):
        return {key: _typed(each, inner[1], f"{name}.{key}") for key, each in value.items()}
    if origin in (Sequence, list) and isinstance(value, list):
        return [_typed(each, inner[0], f"{name}[{place}]") for place, each in enumerate(value)]
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_fields(typing.cast(type, hint), value)
    if isinstance(hint, type) and issubclass(hint, Enum) and value in [member.value for member in hint]:
        return hint(value)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint in (int, float) and _is_number(value, hint):
        return value
    raise ValueError(f"{name!r} is {_short(value)}, not {_spell(hint)}")


def _one_of(value: Any, hints: Sequence[Any], name: str) -> Any:
    if value is None and type(None) in hints:
        return None
    for hint in hints:
        try:
            return _typed(value, hint, name)
        except ValueError as error:
            last = error
    raise last


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _MOST
    return kind is float and isinstance(value, float)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _spell(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(str(member.value) for member in hint)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if hint in words:
        return words[hint]
    return "a list" if typing.get_origin(hint) in (Sequence, list) else "an object"
