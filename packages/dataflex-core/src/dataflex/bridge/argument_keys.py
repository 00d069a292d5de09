"""The keys of argument classes, such as LlamaFactory's: their types and defaults."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any


def types_of(groups: Iterable[Any]) -> dict[str, Any]:
    """The type annotation of each field that a constructor takes.

    Args:
        groups: Dataclasses; of a name that several have, the last counts.
    """
    found: dict[str, Any] = {}
    for group in groups:
        hints = typing.get_type_hints(group)
        found |= {field.name: hints[field.name] for field in dataclasses.fields(group) if field.init}
    return found


def defaults(groups: Iterable[Any]) -> dict[str, Any]:
    """The default of each field that has one.

    Args:
        groups: As in :func:`types_of`.
    """
    found: dict[str, Any] = {}
    for group in groups:
        for field in dataclasses.fields(group):
            if field.init and field.default is not dataclasses.MISSING:
                found[field.name] = field.default
            elif field.init and field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
    return found
