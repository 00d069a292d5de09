"""``@register_selector("name")`` and its siblings: a class marks itself as a component.

The mark is an attribute of the class; there is no global table. The plugin loader looks for marked classes in the
module an entry point (or ``-p``) names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dataflex.spec import API, MARK, ComponentSpec, Kind

Class = TypeVar("Class", bound=type)


def register_selector(name: str) -> Callable[[Class], Class]:
    """Mark a class as the selector ``name``."""
    return _register(Kind.SELECTOR, name)


def register_mixer(name: str) -> Callable[[Class], Class]:
    """Mark a class as the mixer ``name``."""
    return _register(Kind.MIXER, name)


def register_weighter(name: str) -> Callable[[Class], Class]:
    """Mark a class as the weighter ``name``."""
    return _register(Kind.WEIGHTER, name)


def _register(kind: Kind, name: str) -> Callable[[Class], Class]:
    def mark(cls: Class) -> Class:
        doc = (cls.__doc__ or "").strip().splitlines()
        spec = ComponentSpec(
            kind=kind,
            name=name,
            target=f"{cls.__module__}:{cls.__qualname__}",
            api=API,
            summary=doc[0] if doc else "",
        )
        setattr(cls, MARK, spec)
        return cls

    return mark
