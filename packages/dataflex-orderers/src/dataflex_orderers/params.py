"""What a run file may set for each orderer, beside what every orderer has. Defaults are those of the released code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from dataflex import ConfigError, OrdererParams, param


@dataclass(frozen=True)
class ShuffleParams(OrdererParams):
    """Of ``shuffle``: it needs no scores; with ``by`` they are recorded, and change nothing."""

    needs_scores: ClassVar[bool] = False


@dataclass(frozen=True)
class SortingParams(OrdererParams):
    """Of ``sorting``."""


@dataclass(frozen=True)
class FoldingParams(OrdererParams):
    """Of ``folding``."""

    layers: int = param(
        5, "How often a pass goes through all scores.", aliases=("folding_layer", "zigzag_layer"), at_least=1
    )


@dataclass(frozen=True)
class ZigzagParams(OrdererParams):
    """Of ``zigzag``."""

    layers: int = param(
        5, "How often a pass goes through all scores.", aliases=("zigzag_layer", "folding_layer"), at_least=1
    )


@dataclass(frozen=True)
class SegmentParams(OrdererParams):
    """Of ``segment``.

    Raises:
        ConfigError: when front and back together are more than a pass.
    """

    front: float = param(
        0.1, "Part of a pass at its beginning that comes from one end of the scores.", at_least=0, at_most=1
    )
    back: float = param(0.1, "Part of a pass at its end that comes from one end of the scores.", at_least=0, at_most=1)
    front_from: Literal["low", "high"] = param(
        "low", "Which ranks come first: the first ones (low), or the last (high)."
    )
    back_from: Literal["low", "high"] = param("high", "Which ranks come last.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if _exact(self.front) + _exact(self.back) > 1:
            raise ConfigError(f"front={self.front:g} and back={self.back:g} are more than a pass. Lower one of them.")


@dataclass(frozen=True)
class StairParams(OrdererParams):
    """Of ``stair``.

    Raises:
        ConfigError: when what is folded around one cut would reach into that of the next.
    """

    sections: int = param(2, "Sections of a pass; the cuts lie between them.", aliases=("num_sections",), at_least=1)
    radius: float = param(
        0.225,
        "Part of a pass on either side of each cut that is folded; at most 1 / (2 sections).",
        aliases=("folding_ratio",),
        at_least=0,
        below=math.inf,
    )
    layers: int = param(
        3, "How often what lies around a cut is gone through.", aliases=("folding_layer", "zigzag_layer"), at_least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_overlap(self.sections, self.radius)


@dataclass(frozen=True)
class SawParams(OrdererParams):
    """Of ``saw``.

    Raises:
        ConfigError: when what is zigzagged around one cut would reach into that of the next.
    """

    sections: int = param(3, "Sections of a pass; the cuts lie between them.", aliases=("num_sections",), at_least=1)
    radius: float = param(
        0.075,
        "Part of a pass on either side of each cut that is zigzagged; at most 1 / (2 sections).",
        aliases=("folding_ratio",),
        at_least=0,
        below=math.inf,
    )
    layers: int = param(
        2, "How often what lies around a cut is gone through.", aliases=("folding_layer", "zigzag_layer"), at_least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_overlap(self.sections, self.radius)


def check_overlap(sections: int, radius: float) -> None:
    """Check that windows around the cuts do not overlap, by the fractions alone and not by a number of rows.

    Raises:
        ConfigError: says the largest radius.
    """
    if radius > 1 / (2 * sections):
        raise ConfigError(
            f"radius={radius:g} is more than 1 / (2 x sections) = {1 / (2 * sections):g}: windows around the cuts "
            "would overlap, or reach past the ends. Lower radius or sections."
        )


def _exact(value: float) -> Fraction:
    """A number as it was written: 0.1 is a tenth."""
    return Fraction(repr(float(value)))
