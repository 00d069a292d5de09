"""Parameters of the mixer ``schedule``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dataflex import ConfigError, param

TOLERANCE = 1e-6


@dataclass(frozen=True)
class ScheduleParams:
    """What a run file may set under ``component_params``. What can be checked without the domains is checked here.

    Raises:
        ConfigError: for points that do not go together.
    """

    points: dict[int, dict[str, float]] = param(
        help="Proportions by domain name at some optimizer steps; in between they move in a straight line.",
        at_least=0,
        below=math.inf,
    )

    def __post_init__(self) -> None:
        if not self.points:
            raise ConfigError("points is empty; give proportions for at least one step.")
        first = min(self.points)
        if first < 0:
            raise ConfigError(f"points has the step {first}; the first step is 0.")
        for step, shares in sorted(self.points.items()):
            _check_point(step, shares)
            _check_names(step, shares, first, self.points[first])


def _check_names(step: int, shares: Mapping[str, float], first: int, others: Mapping[str, float]) -> None:
    for name in sorted(set(shares) ^ set(others)):
        there, not_there = (step, first) if name in shares else (first, step)
        raise ConfigError(
            f"points name {name!r} at step {there} but not at step {not_there}. Name the same "
            "domains at every step, with 0 for those left out."
        )


def _check_point(step: int, shares: Mapping[str, float]) -> None:
    total = math.fsum(shares.values())
    if abs(total - 1) > TOLERANCE * (1 + 1e-9):
        listed = ", ".join(f"{name}: {share:g}" for name, share in shares.items())
        raise ConfigError(f"points sum to {total:.7g} at step {step}, not to 1 ({listed}).")
