"""Validating values of a component's parameters with pydantic, and what is said of one that does not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from dataflex.config.conversions import mistaken
from dataflex.config.gathering import Gathered
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import CatalogEntry

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from dataflex.config.bind import ParamInfo


def validate_what_fits(
    entry: CatalogEntry,
    declared: type,
    infos: Mapping[str, ParamInfo],
    own: Mapping[str, Any],
    sources: Mapping[str, str],
    problems: Gathered,
) -> Any:
    """An instance of a params dataclass.

    Args:
        entry: The component.
        declared: The dataclass.
        infos: Its parameters, by name.
        own: Values by name.
        sources: Where each came from.
        problems: Takes what is wrong with them.

    Returns:
        The instance, without the values that are wrong; ``None`` where it cannot be made without them.
    """
    from pydantic import ValidationError

    within: dict[str, Any] = {}
    for name, value in own.items():
        with problems.taking():
            _refuse_outside(entry, infos[name], value, sources[name])
            within[name] = value
    outside = own.keys() - within.keys()
    try:
        return _validate_dataclass(entry, declared, within, sources, outside)
    except ConfigError as error:
        problems.errors.append(error)
        cause = error.__cause__
    places = [item["loc"] for item in cause.errors()] if isinstance(cause, ValidationError) else []
    wrong = {str(place[0]) for place in places if place}
    if wrong:
        with contextlib.suppress(ConfigError):
            kept = {name: value for name, value in within.items() if name not in wrong}
            return _validate_dataclass(entry, declared, kept, sources, outside)
    return None


def _refuse_outside(entry: CatalogEntry, info: ParamInfo, value: Any, source: str) -> None:
    """Refuse a value outside the range of its parameter; what is not of its type is told by the dataclass."""
    if not info.limits:
        return
    try:
        taken = _as_annotated(info.annotation, value)
    except ValueError:  # pydantic's ValidationError is one
        return
    _refuse_mistaken(entry, info.name, value, taken, source)
    wrong = [
        f"{where(info.name + place, item if place else value, source)} must be {info.limits}."
        for place, item in info.limits.outside(taken)
    ]
    if wrong:
        raise ConfigError(f"{entry.spec.kind} {entry.spec.name!r}: " + " ".join(wrong))


def _validate_dataclass(
    entry: CatalogEntry,
    declared: type,
    own: Mapping[str, Any],
    sources: Mapping[str, str],
    refused: Collection[str],
) -> Any:
    """The instance; ``None`` where nothing is wrong but that a refused value is missing."""
    from pydantic import TypeAdapter, ValidationError

    title = f"{entry.spec.kind} {entry.spec.name!r}"
    origins = " and ".join(dict.fromkeys(sources[name] for name in own))
    all_of_them = f"its parameters (from {origins})" if origins else "its parameters"
    try:
        params: Any = TypeAdapter(declared).validate_python(dict(own))
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else ""
            if name in refused:
                continue
            place = where(name, own[name], sources[name]) if name in own else all_of_them
            lines.append(f"{place}: {_within(item)}{_said(item)}")
        if not lines:
            return None
        raise ConfigError(f"{title}: " + "; ".join(lines)) from error
    except ConfigError as error:
        raise ConfigError(f"{title}: {all_of_them}: {error}") from error
    except (ArithmeticError, TypeError) as error:
        raise ConfigError(f"{title}: {all_of_them} cannot be used: {type(error).__name__}: {error}") from error
    for name, value in own.items():
        _refuse_mistaken(entry, name, value, getattr(params, name), sources[name])
    return params


def validate(entry: CatalogEntry, name: str, annotation: Any, value: Any, source: str) -> Any:
    """The value of one parameter, as its type has it.

    Raises:
        ConfigError: if it does not fit.
    """
    from pydantic import ValidationError

    try:
        taken = _as_annotated(annotation, value)
    except ValidationError as error:
        raise ConfigError(
            f"{entry.spec.kind} {entry.spec.name!r}: {where(name, value, source)}: {_said(error.errors()[0])}"
        ) from error
    _refuse_mistaken(entry, name, value, taken, source)
    return taken


def _as_annotated(annotation: Any, value: Any) -> Any:
    """A value as pydantic makes it fit an annotation; as it is where pydantic cannot say.

    Raises:
        ValidationError: if it does not fit.
    """
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    if annotation is Any:
        return value
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return value
    return adapter.validate_python(value)


def _said(item: ErrorDetails) -> str:
    """What an error of pydantic says; of one that a ``__post_init__`` raised, its own words."""
    raised = item.get("ctx", {}).get("error")
    return str(raised) if isinstance(raised, Exception) and str(raised) else item["msg"]


def _within(item: ErrorDetails) -> str:
    """Which part of a parameter with parts of its own an error is about: ``survivors: ``."""
    types = {"int", "float", "str", "bool"}
    parts = [part for part in item["loc"][1:] if isinstance(part, str) and part.isidentifier() and part not in types]
    return f"{parts[-1]}: " if parts and parts[-1][:1].islower() else ""


def _refuse_mistaken(entry: CatalogEntry, name: str, value: Any, taken: Any, source: str) -> None:
    for wrong in mistaken(value, taken):
        raise ConfigError(f"{entry.spec.kind} {entry.spec.name!r}: {where(name, value, source)}: {wrong}.")


def where(name: str, value: Any, source: str) -> str:
    """A parameter with its value and where that came from, for messages."""
    return f"component_params.{name}: {value!r} (from {source})"
