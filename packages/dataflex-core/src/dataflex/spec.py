"""What a component declares about itself: the only thing a plugin must hand over at start.

Standard library only, so that listing components never imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from dataflex.errors import PluginError
from dataflex.kinds import Kind as Kind

API = 1
"""Version of the contract between core and component packages; a spec names the one it was written for."""

_NAME = re.compile(r"\w[\w.+-]*")
"""A component's cache is a folder of its name, so a name is never a path: no separator, no dot in front."""


class Need(StrEnum):
    """Something the run must offer before a component can work; checked before anything loads."""

    EVAL_SET = "eval_set"
    OPTIMIZER_STATE = "optimizer_state"
    DOMAINS = "domains"
    DOMAIN_LOSSES = "domain_losses"
    SAMPLE_LOSSES = "sample_losses"
    REFERENCE_MODEL = "reference_model"
    PREFERENCES = "preferences"
    HIDDEN_STATES = "hidden_states"
    ROUTER_LOGITS = "router_logits"


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
        gives_weights: Whether a selector returns a weight of each chosen row (``Selection.weights``), so that a run
            whose loss cannot be weighed is refused before it loads; ``None`` where that is not said.
        numbers_from: Names of its parameters that say where numbers of the rows come from: each is ``column:NAME``,
            ``file:PATH`` or ``length``, or a list of such. They are looked up before the model loads; the component
            reads them with ``dataflex.data.given_scores.given_numbers``.
        legacy: Names of parameters that run files of other versions or packages set for it: ignored with a warning,
            the sentence beside the name.
        refused: Names that would change what comes out and cannot be followed: an error, the sentence beside the name.
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
    gives_weights: bool | None = None
    numbers_from: tuple[str, ...] = ()
    legacy: Mapping[str, str] = field(default_factory=dict, hash=False)
    refused: Mapping[str, str] = field(default_factory=dict, hash=False)

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
        for label in ("legacy", "refused"):
            sentences = MappingProxyType(dict(getattr(self, label)))
            object.__setattr__(self, label, sentences)
            silent = [name for name, sentence in sentences.items() if not sentence.strip()]
            if silent:
                raise PluginError(f"{label} of component {self.name!r} says nothing of {', '.join(silent)}.")
        if both := sorted(set(self.legacy) & set(self.refused)):
            raise PluginError(f"component {self.name!r} both ignores and refuses {', '.join(both)}.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The range of a parameter: bounds, words to choose from, or either.

    They hold for the value, for each item of a list and for each value of a mapping, at any depth. ``None`` passes
    (the type says whether it may stand there), and so does what has no order with a bound, such as the word of a
    ``float | str`` or a truth value. NaN never passes.

    Attributes:
        above: Values are greater than this; ``-math.inf`` asks for a finite number.
        at_least: Values are this or greater.
        below: Values are less than this; ``math.inf`` asks for a finite number.
        at_most: Values are this or less.
        choices: Values are among these or, where there are bounds, within those.
    """

    above: Any = None
    at_least: Any = None
    below: Any = None
    at_most: Any = None
    choices: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return self != Limits()

    def __str__(self) -> str:
        """The range in words that follow "must be": ``above 0 and finite``."""
        bounds = [
            *([f"above {self.above}"] if self.above not in (None, -math.inf) else []),
            *([f"at least {self.at_least}"] if self.at_least is not None else []),
            *([f"below {self.below}"] if self.below not in (None, math.inf) else []),
            *([f"at most {self.at_most}"] if self.at_most is not None else []),
            *(["finite"] if self._finite else []),
        ]
        choices = f"one of {', '.join(map(str, self.choices))}" if self.choices else ""
        return " or ".join(filter(None, (" and ".join(bounds), choices)))

    def outside(self, value: Any) -> Iterator[tuple[str, Any]]:
        """What lies outside the range: where it stands in the value (``""``, ``[1]``, ``.web``), and itself."""
        if value is None or (self.choices and value in self.choices and value == value):
            return
        if isinstance(value, Mapping):
            for key, each in value.items():
                yield from ((f".{key}{place}", wrong) for place, wrong in self.outside(each))
        elif isinstance(value, (list, tuple, set, frozenset)):
            for number, each in enumerate(value):
                yield from ((f"[{number}]{place}", wrong) for place, wrong in self.outside(each))
        elif not self._within_bounds(value):
            yield "", value

    @property
    def _finite(self) -> bool:
        return bool(self.above == -math.inf or self.below == math.inf)

    def _within_bounds(self, value: Any) -> bool:
        if value != value:
            return False
        if isinstance(value, bool) or self == Limits(choices=self.choices):
            return not self.choices
        try:
            return bool(
                (self.above is None or value > self.above)
                and (self.at_least is None or value >= self.at_least)
                and (self.below is None or value < self.below)
                and (self.at_most is None or value <= self.at_most)
                and not (self._finite and abs(value) == math.inf)
            )
        except TypeError:  # a word beside numbers: it has no order with them
            return not self.choices


def param(
    default: Any = MISSING,
    help: str = "",  # noqa: A002 - reads as the sentence users see
    *,
    default_factory: Callable[[], Any] | Any = MISSING,
    aliases: tuple[str, ...] = (),
    above: Any = None,
    at_least: Any = None,
    below: Any = None,
    at_most: Any = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Declare one parameter of a component, with the help text and the range that ``show-component`` prints.

    The range is checked when the parameters of a run are bound, before ``__post_init__``; see :class:`Limits` for what
    it holds for. ``__post_init__`` is left with what no single value decides.

    Args:
        default: Its default; leave out for a required parameter.
        help: One sentence.
        default_factory: For mutable defaults.
        aliases: Older names that mean the same.
        above: Values are greater than this; ``-math.inf`` asks for a finite number.
        at_least: Values are this or greater.
        below: Values are less than this; ``math.inf`` asks for a finite number.
        at_most: Values are this or less.
        choices: Values are among these or, where there are bounds, within those.

    Raises:
        PluginError: if the default lies outside the range.

    Example:
        >>> @dataclass(frozen=True)
        ... class LessParams:
        ...     proj_dim: int = param(4096, "Width of the projected gradient; memory grows linearly.", at_least=1)
    """
    limits = Limits(above=above, at_least=at_least, below=below, at_most=at_most, choices=tuple(choices))
    metadata = {"help": help, "aliases": aliases, "limits": limits}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata=metadata)
    if default is not MISSING and limits:
        for _, wrong in limits.outside(default):
            raise PluginError(f"the default {default!r} holds {wrong!r}, which must be {limits} by its own param().")
    return field(default=default, metadata=metadata)


MARK = "__dataflex_component__"
"""Attribute that ``@register_selector`` and its siblings leave on a class; its value is a ComponentSpec."""
