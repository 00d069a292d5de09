"""One sentence about an arm, where the data carries one."""

from __future__ import annotations

from collections.abc import Mapping

from dataflex.study.paired import ENOUGH, SIGNIFICANT, Paired, spelt_p

FEWEST = 3
"""Seeds below which nothing is said."""


def verdict(arm: str, baseline: str, cost: Paired, others: Mapping[str, float]) -> str:
    """Say whether an arm is better than the baseline at equal cost.

    From :data:`~dataflex.study.paired.ENOUGH` seeds on, Holm's p decides; with three or four, all gains have to have
    one sign; with fewer nothing is said. An arm that no baseline run is as dear (or as cheap) as cannot be compared.

    Args:
        arm: Its name.
        baseline: The baseline's.
        cost: The comparison at equal cost.
        others: Mean gains of the other metrics.

    Returns:
        The sentence without a full stop; ``""`` for none.
    """
    if cost.outside:
        return _outside(arm, baseline, cost)
    if cost.mean is None or cost.n < FEWEST:
        return ""
    if cost.n >= ENOUGH:
        if cost.p_holm is None or cost.p_holm >= SIGNIFICANT:
            return f"{arm} and {baseline} at equal cost: no difference that {cost.n} seeds show"
        evidence = f"{cost.n} seeds, p {spelt_p(cost.p_holm)}"
    else:
        worse = sum(gain < 0 for gain in cost.gains)
        if cost.n not in (cost.better, worse):
            return ""
        evidence = f"{cost.n} of {cost.n} seeds"
    side = "better" if cost.mean > 0 else "worse"
    said = f"{arm} is {side} than {baseline} at equal cost by {abs(cost.mean):.2g} ({evidence})"
    return "; ".join([said, *(_other(metric, gain) for metric, gain in others.items())])


def _outside(arm: str, baseline: str, cost: Paired) -> str:
    seeds = cost.n + cost.outside
    sides = [(word, len(found)) for word, found in (("dearer", cost.dearer), ("cheaper", cost.cheaper)) if found]
    said = " and ".join(f"{word} than every {baseline} run in {count} of {seeds} seeds" for word, count in sides)
    return f"{arm} is {said}"


def _other(metric: str, gain: float) -> str:
    return f"{metric} {'gains' if gain >= 0 else 'loses'} {abs(gain):.2g}"
