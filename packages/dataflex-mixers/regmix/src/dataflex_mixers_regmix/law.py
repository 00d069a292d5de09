"""A log-linear law from mixture to loss, fitted to small runs: ``L(p) = exp(c) + exp(t.p)`` (Olmix, arXiv 2602.12237).

Shapes: N runs, K domains, M eval sets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STARTS = 100
_ROUNDS = 20
"""Evaluations from each start."""

_FINISHED, _LAST_ROUNDS = 3, 200
"""How many of the lowest ends are followed further, and for how many evaluations at most."""

_HUBER = 0.02
"""Nats from which on a run that lies off the law counts linearly."""


@dataclass(frozen=True)
class Law:
    """The loss of one eval set as a function of the mixture.

    Attributes:
        log_floor: ``c``: the loss that no mixture goes below is ``exp(c)``.
        slopes_K: ``t``: below 0 for a domain that lowers the loss.
    """

    log_floor: float
    slopes_K: Floats

    def loss(self, mixtures: Floats) -> Floats:
        """The loss at mixtures, shape [..., K] to [...]."""
        losses: Floats = np.exp(self.log_floor) + np.exp(mixtures @ self.slopes_K)
        return losses

    def gradient(self, shares_K: Floats) -> Floats:
        """Its gradient at one mixture, [K]."""
        slope: Floats = np.exp(shares_K @ self.slopes_K) * self.slopes_K
        return slope


def fit_law(mixtures_NK: Floats, losses_N: Floats, starts: int = _STARTS) -> Law:
    """Fit the law with a Huber loss from fixed starts; the lowest end counts.

    Args:
        mixtures_NK: What the runs were trained on.
        losses_N: Their losses; above 0.
        starts: How many; the same ones in every call.

    Raises:
        ValueError: if none of them came to an end.
    """
    from scipy.optimize import least_squares

    def residuals(values: Floats) -> Floats:
        off: Floats = np.exp(values[0]) + np.exp(mixtures_NK @ values[1:]) - losses_N
        return off

    def jacobian(values: Floats) -> Floats:
        slopes = np.exp(mixtures_NK @ values[1:])[:, None] * mixtures_NK
        return np.concatenate([np.full((len(losses_N), 1), np.exp(values[0])), slopes], axis=1)

    draw = np.random.default_rng(0)
    ends: list[tuple[float, Floats]] = []

    def follow(first: Floats, rounds: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"), contextlib.suppress(ValueError):  # it left all bounds
            found = least_squares(residuals, first, jacobian, loss="huber", f_scale=_HUBER, max_nfev=rounds)
            ends.append((float(found.cost), found.x))

    for _ in range(starts):
        floor = losses_N.min() * draw.uniform(0.3, 1.0)
        follow(np.concatenate([[np.log(floor)], draw.normal(size=mixtures_NK.shape[1])]), _ROUNDS)
    for _, end in sorted(ends, key=lambda end: end[0])[:_FINISHED]:
        follow(end, _LAST_ROUNDS)
    if not ends:
        raise ValueError("no start of the fit came to an end")
    _, best = min(ends, key=lambda end: end[0])
    return Law(float(best[0]), best[1:])


def fit_laws(mixtures_NK: Floats, losses_NM: Floats, starts: int = _STARTS) -> list[Law]:
    """One law for each eval set, as :func:`fit_law`."""
    return [fit_law(mixtures_NK, losses_N, starts) for losses_N in losses_NM.T]


def total(laws: Sequence[Law], weights_M: Floats, mixtures: Floats) -> Floats:
    """The weighted loss over the eval sets at mixtures, shape [..., K] to [...]."""
    losses_M = np.stack([law.loss(mixtures) for law in laws], axis=-1)
    weighted: Floats = losses_M @ weights_M
    return weighted
