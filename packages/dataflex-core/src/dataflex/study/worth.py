"""What an arm is worth: how many baseline steps one of its own stands for, and whether deciding pays for itself.

An arm reaches a value after t steps that the baseline reaches after rho t. Deciding may then cost as much as the
(rho - 1) t steps that it saves: deciding < training * (rho - 1), both in the unit of cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from dataflex.study.curve import Curve, Outside


@dataclass(frozen=True, kw_only=True)
class Worth:
    """The inequality of one arm in one seed.

    Attributes:
        rho: Baseline steps for one step of the arm; ``None`` outside the baseline's lengths.
        bound: The longest or shortest baseline over the arm's own steps, where ``rho`` lies outside; else ``None``.
        outside: On which side it lies there.
        deciding: What deciding cost, in the unit of cost.
        allowed: What it might have cost, training * (rho - 1); at the bound where ``rho`` lies outside.
        pays: Whether it was less; ``None`` where the bound does not tell.
    """

    rho: float | None
    bound: float | None
    outside: Outside | None
    deciding: float
    allowed: float
    pays: bool | None

    @property
    def spelt(self) -> float | str:
        """``rho`` as it is recorded: a number, or the bound in words."""
        if self.rho is not None:
            return self.rho
        return f"{'more' if self.outside is Outside.ABOVE else 'less'} than {self.bound:g}"


def worth(
    baseline: Curve, *, value: float, steps: float, training: float, deciding: float, lower: bool
) -> Worth | None:
    """Judge one run of an arm.

    Args:
        baseline: The baseline's values of the same seed, by optimizer steps.
        value: The arm's.
        steps: Its own optimizer steps.
        training: What training cost, in the unit of cost.
        deciding: What deciding cost.
        lower: Whether lower values are better.

    Returns:
        The inequality; ``None`` where the baseline has no value in this seed.
    """
    if not baseline.points:
        return None
    reached = baseline.first_reaching(value, lower=lower)
    if not isinstance(reached, Outside):
        rho = reached / steps
        allowed = training * (rho - 1)
        return Worth(rho=rho, bound=None, outside=None, deciding=deciding, allowed=allowed, pays=deciding < allowed)
    above = reached is Outside.ABOVE
    bound = baseline.points[-1 if above else 0][0] / steps
    allowed = training * (bound - 1)  # at least that above, at most below
    certain = deciding <= allowed if above else deciding >= allowed
    pays = above if certain else None
    return Worth(rho=None, bound=bound, outside=reached, deciding=deciding, allowed=allowed, pays=pays)
