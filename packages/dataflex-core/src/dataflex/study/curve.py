"""A metric along the baseline's lengths: interpolation between them, and the first length that reaches a value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outside(StrEnum):
    """Where a place lies that no interpolation reaches: nothing is extrapolated."""

    BELOW = "below"
    ABOVE = "above"


@dataclass(frozen=True)
class Curve:
    """The baseline's metric of one seed at several lengths or costs.

    Attributes:
        points: Place (steps, or a cost; above 0) and value, by place.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def through(cls, points: Iterable[tuple[float | None, float | None]]) -> Curve:
        """The curve through points; those without a place or a finite value are left out."""
        known = [(float(at), float(value)) for at, value in points if at is not None and value is not None]
        return cls(tuple(sorted(point for point in known if point[0] > 0 and all(map(math.isfinite, point)))))

    def at(self, place: float) -> float | Outside:
        """The value at a place: that of a run where one lies there, else linear in the logarithm of the place."""
        if not self.points or place < self.points[0][0]:
            return Outside.BELOW
        if place > self.points[-1][0]:
            return Outside.ABOVE
        for (left, before), (right, after) in itertools.pairwise(self.points):
            if left < place < right:
                return before + (after - before) * math.log(place / left) / math.log(right / left)
        return next(value for at, value in self.points if at == place)

    def first_reaching(self, value: float, *, lower: bool) -> float | Outside:
        """The least place at which the curve is as good as a value.

        Args:
            value: What is to be reached.
            lower: Whether lower values are better.

        Returns:
            The place of the first crossing, linear in its logarithm; :attr:`Outside.ABOVE` if no place reaches the
            value, :attr:`Outside.BELOW` if the first one is better already.
        """
        sign = 1.0 if lower else -1.0
        missing = [(at, sign * (found - value)) for at, found in self.points]  # 0 or less: reached
        if not missing or all(gap > 0 for _, gap in missing):
            return Outside.ABOVE
        if missing[0][1] < 0:
            return Outside.BELOW
        if missing[0][1] == 0:
            return missing[0][0]
        for (left, before), (right, after) in itertools.pairwise(missing):
            if after <= 0 < before:
                return left * math.pow(right / left, before / (before - after))
        raise AssertionError("a curve that reaches a value crosses it")
