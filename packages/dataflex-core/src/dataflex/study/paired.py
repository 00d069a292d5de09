"""Paired comparisons over seeds: gains, the paired t-test, and Holm's correction for several arms."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

ENOUGH = 5
"""Seeds from which on there is an interval and a p; below, all gains are shown."""

LEVEL = 0.95
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Gains of an arm over the baseline, one a seed; above 0 the arm is better.

    Attributes:
        n: Number of seeds in which both have a value.
        seeds: Those seeds.
        gains: The gain in each.
        mean: Mean gain; ``None`` without seeds.
        sd: Standard deviation of the gains (n - 1); ``None`` below two seeds.
        interval: 95% interval of the mean by the paired t-test; ``None`` below :data:`ENOUGH` seeds.
        p: Its two-sided p; ``None`` below :data:`ENOUGH` seeds.
        p_holm: The same after Holm's correction over the arms; ``None`` as ``p``.
        better: Number of seeds in which the arm is better.
        dearer: Seeds in which the arm lies above every baseline run, so that there is nothing to compare with.
        cheaper: Seeds in which it lies below every one.
        excluded: Seeds of the study in which a value is missing or is no number.
    """

    n: int
    seeds: Sequence[int]
    gains: Sequence[float]
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    better: int
    dearer: Sequence[int] = ()
    cheaper: Sequence[int] = ()
    excluded: int = 0

    @property
    def outside(self) -> int:
        """Number of seeds in which the arm lies outside the baseline's range."""
        return len(self.dearer) + len(self.cheaper)


def paired(baseline: Mapping[int, float], arm: Mapping[int, float], *, lower: bool) -> Paired:
    """Compare two runs of each seed.

    Args:
        baseline: The baseline's value by seed, all finite.
        arm: The arm's.
        lower: Whether lower values are better.
    """
    seeds = [seed for seed in arm if seed in baseline]
    first, second = ([side[seed] for seed in seeds] for side in ((baseline, arm) if lower else (arm, baseline)))
    gains = [one - other for one, other in zip(first, second, strict=True)]
    interval, p = _t_test(first, second) if len(seeds) >= ENOUGH else (None, None)
    return Paired(
        n=len(seeds),
        seeds=seeds,
        gains=gains,
        mean=statistics.fmean(gains) if gains else None,
        sd=statistics.stdev(gains) if len(gains) > 1 else None,
        interval=interval,
        p=p,
        p_holm=None,
        better=sum(gain > 0 for gain in gains),
    )


def _t_test(first: Sequence[float], second: Sequence[float]) -> tuple[tuple[float, float] | None, float | None]:
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # gains that are all alike
        found = stats.ttest_rel(first, second)
        interval = found.confidence_interval(LEVEL)
    low, high, p = float(interval.low), float(interval.high), float(found.pvalue)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None, p if math.isfinite(p) else None


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of several p values (Holm 1979), in their order."""
    corrected, highest = list(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected


def corrected_over_arms(found: Mapping[str, Paired]) -> dict[str, Paired]:
    """The comparisons of all arms, with Holm's p for those that have one."""
    tested = {arm: each.p for arm, each in found.items() if each.p is not None}
    after = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {arm: replace(each, p_holm=after.get(arm)) for arm, each in found.items()}


def spelt_p(p: float) -> str:
    """A p with its sign: ``= 0.013``, ``< 0.0001``."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"
