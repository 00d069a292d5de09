"""Validating values of a component's parameters with pydantic, and what is said of one that does not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from dataflex.config.conversions import mistaken
from dataflex.config.gathering import Gathered
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import CatalogEntry


def validate_what_fits(
    entry: CatalogEntry, declared: type, own: Mapping[str, Any], sources: Mapping[str, str], problems: Gathered
) -> Any:
    """An instance of a params dataclass.

    Args:
        entry: The component.
        declared: The dataclass.
        own: Values by name.
        sources: Where each came from.
        problems: Takes what is wrong with them.

    Returns:
        The instance, without the values that are wrong; ``None`` where it cannot be made without them.
    """
    from pydantic import ValidationError

    try:
        return _validate_dataclass(entry, declared, own, sources)
    except ConfigError as error:
        problems.errors.append(error)
        cause = error.__cause__
    places = [item["loc"] for item in cause.errors()] if isinstance(cause, ValidationError) else []
    wrong = {str(place[0]) for place in places if place}
    if wrong:
        with contextlib.suppress(ConfigError):
            kept = {name: value for name, value in own.items() if name not in wrong}
            return _validate_dataclass(entry, declared, kept, sources)
    return None


def _validate_dataclass(entry: CatalogEntry, declared: type, own: Mapping[str, Any], sources: Mapping[str, str]) -> Any:
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
            place = where(name, own[name], sources[name]) if name in own else all_of_them
            lines.append(f"{place}: {item['msg']}")
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
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    if annotation is Any:
        return value
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return value
    try:
        taken = adapter.validate_python(value)
    except ValidationError as error:
        raise ConfigError(
            f"{entry.spec.kind} {entry.spec.name!r}: {where(name, value, source)}: {error.errors()[0]['msg']}"
        ) from error
    _refuse_mistaken(entry, name, value, taken, source)
    return taken


def _refuse_mistaken(entry: CatalogEntry, name: str, value: Any, taken: Any, source: str) -> None:
    for wrong in mistaken(value, taken):
        raise ConfigError(f"{entry.spec.kind} {entry.spec.name!r}: {where(name, value, source)}: {wrong}.")


def where(name: str, value: Any, source: str) -> str:
    """A parameter with its value and where that came from, for messages."""
    return f"component_params.{name}: {value!r} (from {source})"
