"""Parameters that every orderer has: where its scores come from, which end comes first, how much is shuffled.

Torch-free: the parameters of a run are bound before anything loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from dataflex.errors import ConfigError
from dataflex.kinds import KINDS
from dataflex.spec import ComponentSpec, param


class ScoreKind(StrEnum):
    """Where the scores of an order come from."""

    SELECTOR = "selector"
    LOSS = "loss"
    LENGTH = "length"
    FILE = "file"
    COLUMN = "column"


LISTED = "selector, loss, length, file:PATH or column:NAME"
LISTED_GIVEN = "length, file:PATH or column:NAME"
"""Those that are known before training."""
_WITH_NAME = (ScoreKind.FILE, ScoreKind.COLUMN)


@dataclass(frozen=True)
class ScoreSource:
    """One source of scores.

    Attributes:
        kind: Which.
        name: Path of the file, or name of the column; ``""`` for the others.
    """

    kind: ScoreKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


def score_source(by: str) -> ScoreSource:
    """Read the parameter ``by``.

    Raises:
        ConfigError: for anything but the five; it lists them.
    """
    word, colon, name = by.partition(":")
    try:
        kind = ScoreKind(word.strip())
    except ValueError:
        raise ConfigError(f"by: {by!r} is no source of scores; write {LISTED}.") from None
    name = name.strip()
    if kind in _WITH_NAME and not name:
        raise ConfigError(
            f"by: {by!r} names nothing; write {'file:PATH' if kind is ScoreKind.FILE else 'column:NAME'}."
        )
    if kind not in _WITH_NAME and colon:
        raise ConfigError(f"by: {by!r} must be {kind} alone.")
    return ScoreSource(kind, name)


def sources_in(spec: ComponentSpec, values: Mapping[str, Any]) -> list[str]:
    """What the parameters of a component say about where scores come from.

    Args:
        spec: An orderer, which has the parameter ``by``, or what declares others in ``numbers_from``.
        values: Its parameters.
    """
    names = ("by",) if KINDS[spec.kind].orders else spec.numbers_from
    given = [values.get(name) for name in names]
    return [str(each) for by in given for each in (by if isinstance(by, (list, tuple)) else [by]) if each]


@dataclass(frozen=True)
class OrdererParams:
    """What a run file may set for any orderer. Derive from it and add your own.

    Attributes:
        needs_scores: Whether the order says nothing without scores, so that ``by`` has to be known.

    Raises:
        ConfigError: for a ``by`` that is none of the five.
    """

    needs_scores: ClassVar[bool] = True

    by: str | None = param(
        None,
        f"Where scores come from: {LISTED}. With a selector in the run it is `selector` unless given.",
    )
    direction: Literal["ascending", "descending"] = param(
        "ascending", "Which scores have the first ranks: the lowest, or the highest."
    )
    window: int = param(
        1,
        "Shuffle the finished order within blocks of so many rows; 1 leaves it.",
        aliases=("window_size",),
        at_least=0,
    )
    max_candidates: int | None = param(
        None,
        "by: loss: most rows to score at a boundary, drawn anew each time; others keep their last score.",
        aliases=("max_samples",),
        at_least=1,
    )
    token_budget: int | None = param(
        None, "by: loss: tokens of one scoring batch, padding included; by default what suits the device.", at_least=1
    )

    def __post_init__(self) -> None:
        if self.by is not None:
            score_source(self.by)
