"""What a component declares about itself: the only thing a plugin must hand over at start.

Standard library only, so that listing components never imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from typing import Any

from dataflex.errors import PluginError

API = 1
"""Version of the contract between core and component packages; a spec names the one it was written for."""

_NAME = re.compile(r"\w[\w.+-]*")
"""A component's cache is a folder of its name, so a name is never a path: no separator, no dot in front."""


class Kind(StrEnum):
    """The decision a component makes."""

    SELECTOR = "selector"
    MIXER = "mixer"
    WEIGHTER = "weighter"

    @property
    def plural(self) -> str:
        """Key of this kind in a ``components.yaml``."""
        return f"{self.value}s"


class Need(StrEnum):
    """Something the run must offer before a component can work; checked before anything loads."""

    EVAL_SET = "eval_set"
    OPTIMIZER_STATE = "optimizer_state"
    DOMAINS = "domains"
    DOMAIN_LOSSES = "domain_losses"
    SAMPLE_LOSSES = "sample_losses"
    REFERENCE_MODEL = "reference_model"


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """One selectable component of a plugin.

    Attributes:
        kind: Which decision it makes.
        name: What users write as ``component_name``: letters, digits and any of ``_ . + -``, the last three not first.
        target: ``"module:Class"``, imported only when a run or ``show-component`` needs it.
        api: The :data:`API` the component was written for. Required and literal: a default would always
            claim to be today's.
        params: ``"module:Class"`` of a torch-free dataclass with the parameters, or ``None`` to derive them
            from the constructor of ``target``.
        summary: One line for ``dataflex list-components``.
        needs: What the run must offer.
        stochastic: Whether the result depends on the seed.
        paper: Source of the method, e.g. ``"Xia et al. 2024, arXiv 2402.04333"``.
        gives_scores: Whether a selector returns a score of each row with its selection, so that ``dataflex score`` can
            write them; ``None`` where that is not said, and it is found out by asking.
    """

    kind: Kind
    name: str
    target: str
    api: int
    params: str | None = None
    summary: str = ""
    needs: frozenset[Need] = frozenset()
    stochastic: bool = False
    paper: str = ""
    gives_scores: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        object.__setattr__(self, "needs", frozenset(Need(need) for need in self.needs))
        if not _NAME.fullmatch(self.name):
            raise PluginError(
                f"component name {self.name!r} cannot be the name of a folder: use letters, digits and any of _ . + -, "
                "a letter, digit or _ first."
            )
        for label, reference in (("target", self.target), ("params", self.params)):
            if reference is not None and reference.count(":") != 1:
                raise PluginError(f"{label} of component {self.name!r} is {reference!r}; write 'module:Class'.")


def param(
    default: Any = MISSING,
    help: str = "",  # noqa: A002 - reads as the sentence users see
    *,
    default_factory: Callable[[], Any] | Any = MISSING,
    aliases: tuple[str, ...] = (),
) -> Any:
    """Declare one parameter of a component, with the help text that ``show-component`` prints.

    Args:
        default: Its default; leave out for a required parameter.
        help: One sentence.
        default_factory: For mutable defaults.
        aliases: Older names that mean the same.

    Example:
        >>> @dataclass(frozen=True)
        ... class LessParams:
        ...     proj_dim: int = param(4096, "Width of the projected gradient; memory grows linearly.")
    """
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata={"help": help, "aliases": aliases})
    return field(default=default, metadata={"help": help, "aliases": aliases})


MARK = "__dataflex_component__"
"""Attribute that ``@register_selector`` and its siblings leave on a class; its value is a ComponentSpec."""
