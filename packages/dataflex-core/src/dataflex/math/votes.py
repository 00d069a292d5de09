"""Rankings over several targets in which the scale of a target's scores does not count: votes, and balance.

Shapes: N rows, K targets. A row with a score that is not finite has no part in either, and comes last.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from dataflex.math.ranks import mean_ranks
from dataflex.math.topk import top_k

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
TieBreak = Literal["rank", "mean", "random"]


def thresholds(scores_NK: Floats, share: float) -> Floats:
    """From which score on a target votes for a row: the (1 - share) quantile of its scores, between two rows linearly.

    Args:
        scores_NK: Scores.
        share: Share of the rows that each target votes for, above 0 and at most 1.

    Returns:
        Shape [K]; NaN where no row has all its scores.
    """
    known = scores_NK[_finite(scores_NK)]
    if not len(known):
        return np.full(scores_NK.shape[1], np.nan)
    return np.asarray(np.quantile(known, 1 - share, axis=0))


def votes(scores_NK: Floats, share: float) -> Floats:
    """How many targets vote for each row: those on whose :func:`thresholds` it lies, or above.

    Counted at the lowest score above the threshold, so that no rounding takes a row its vote. With ``share`` k/N, each
    target votes for at least k rows.

    Source: ICONS (2501.00654), section 3; ``generalist.py`` of its code.

    Returns:
        Shape [N], whole numbers; NaN for a row without all its scores.
    """
    finite = _finite(scores_NK)
    counts_N = np.full(len(scores_NK), np.nan)
    known = scores_NK[finite]
    if len(known):
        place = (1 - share) * (len(known) - 1)
        nearest = round(place)
        lowest = nearest if abs(place - nearest) < 1e-9 * len(known) else int(np.ceil(place))
        counts_N[finite] = (known >= np.sort(known, axis=0)[lowest]).sum(axis=1)
    return counts_N


def mean_fractional_ranks(scores_NK: Floats) -> Floats:
    """Mean over targets of a row's rank among the rows, from 0 (lowest) to 1; equal scores share the mean rank.

    Returns:
        Shape [N]; NaN for a row without all its scores, 0 if it is the only one with them.
    """
    finite = _finite(scores_NK)
    ranks_N = np.full(len(scores_NK), np.nan)
    known = scores_NK[finite]
    if len(known):
        ranks_nK = np.stack([mean_ranks(column) for column in known.T], axis=1)
        ranks_N[finite] = ranks_nK.mean(axis=1) / max(len(known) - 1, 1)
    return ranks_N


def vote_scores(scores_NK: Floats, share: float, tie_break: TieBreak = "rank") -> Floats:
    """One score per row that orders rows by votes, then by ``tie_break``: votes and a fraction below 1.

    The fraction is the mean fractional rank (``rank``), the place of the row's mean score among all (``mean``), or
    nothing (``random``: who draws breaks the ties). A row that is best for all targets has a fraction of 1 and all
    the votes, so that no row passes one with more votes.

    Returns:
        Shape [N]; NaN for a row without all its scores.
    """
    counts_N = votes(scores_NK, share)
    if tie_break == "rank":
        return counts_N + mean_fractional_ranks(scores_NK)
    if tie_break == "mean":
        finite = _finite(scores_NK)
        counts_N[finite] += mean_ranks(scores_NK[finite].mean(axis=1)) / max(int(finite.sum()), 1)
    return counts_N


def z_scores(scores_NK: Floats) -> Floats:
    """Each target's scores less their mean, in standard deviations (over N); 0 for a target whose scores are alike.

    Returns:
        Shape [N, K]; NaN for a row without all its scores.
    """
    finite = _finite(scores_NK)
    z_NK = np.full(scores_NK.shape, np.nan)
    known = scores_NK[finite]
    if len(known):
        alike = (known == known[0]).all(axis=0)
        spread_K = np.where(alike, 1.0, known.std(axis=0))
        z_NK[finite] = np.where(alike, 0.0, (known - known.mean(axis=0)) / np.where(spread_K > 0, spread_K, 1.0))
    return z_NK


def balanced(scores_NK: Floats, num_samples: int) -> Rows:
    """Serve the target that is worst off, again and again.

    Each target has a sum, 0 at first. The target with the least (of equal ones the first) takes its best row that is
    not taken (of equal ones the first), and the row's :func:`z_scores` are added to all sums.

    Source: BIDS (2501.12147).

    Args:
        scores_NK: Scores; at least ``num_samples`` rows have all of them.
        num_samples: How many rows to take.

    Returns:
        The rows in the order taken, shape [num_samples].
    """
    z_NK = z_scores(scores_NK)
    known = int(np.isfinite(z_NK[:, 0]).sum())
    if num_samples > known:
        raise ValueError(f"cannot take {num_samples} rows where {known} have a score")
    orders = [top_k(np.where(np.isfinite(z_NK[:, 0]), column, np.nan), known) for column in scores_NK.T]
    places, sums_K = [0] * len(orders), np.zeros(len(orders))
    taken, chosen = np.zeros(len(z_NK), bool), np.zeros(num_samples, np.int64)
    for count in range(num_samples):
        target = int(sums_K.argmin())
        while taken[orders[target][places[target]]]:
            places[target] += 1
        row = int(orders[target][places[target]])
        taken[row], chosen[count] = True, row
        sums_K += z_NK[row]
    return chosen


def _finite(scores_NK: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(scores_NK).all(axis=1))
