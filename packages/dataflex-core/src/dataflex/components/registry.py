"""``@register_selector("name")`` and its siblings: a class marks itself as a component.

The mark is an attribute of the class; there is no global table. The plugin loader looks for marked classes in the
module an entry point (or ``-p``) names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from dataflex.spec import API, MARK, ComponentSpec, Kind, Need

Class = TypeVar("Class", bound=type)


def register_selector(
    name: str, *, needs: Iterable[Need] = (), stochastic: bool = False, gives_scores: bool | None = None
) -> Callable[[Class], Class]:
    """Mark a class as the selector ``name``; ``needs``, ``stochastic`` and ``gives_scores`` as in a ComponentSpec."""
    return register(Kind.SELECTOR, name, needs, stochastic, gives_scores)


def register_mixer(name: str, *, needs: Iterable[Need] = (), stochastic: bool = False) -> Callable[[Class], Class]:
    """Mark a class as the mixer ``name``; ``needs`` and ``stochastic`` as in a ComponentSpec."""
    return register(Kind.MIXER, name, needs, stochastic)


def register_weighter(name: str, *, needs: Iterable[Need] = (), stochastic: bool = False) -> Callable[[Class], Class]:
    """Mark a class as the weighter ``name``; ``needs`` and ``stochastic`` as in a ComponentSpec."""
    return register(Kind.WEIGHTER, name, needs, stochastic)


def register_orderer(name: str, *, needs: Iterable[Need] = (), stochastic: bool = False) -> Callable[[Class], Class]:
    """Mark a class as the orderer ``name``; ``needs`` and ``stochastic`` as in a ComponentSpec."""
    return register(Kind.ORDERER, name, needs, stochastic)


def register(
    kind: Kind,
    name: str,
    needs: Iterable[Need] = (),
    stochastic: bool = False,
    gives_scores: bool | None = None,
) -> Callable[[Class], Class]:
    """Mark a class as a component of any kind; the decorator of each kind is this with its kind."""

    def mark(cls: Class) -> Class:
        doc = (cls.__doc__ or "").strip().splitlines()
        spec = ComponentSpec(
            kind=kind,
            name=name,
            target=f"{cls.__module__}:{cls.__qualname__}",
            api=API,
            summary=doc[0] if doc else "",
            needs=frozenset(needs),
            stochastic=stochastic,
            gives_scores=gives_scores,
        )
        setattr(cls, MARK, spec)
        return cls

    return mark
