"""From counts to log ratios, and from the scores of two sets of rows to how well they tell these apart.

Shapes: D buckets, P rows of the pool, V rows of a target.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEAST_ROWS = 16
"""Rows of a target below which its separation is not reported: chance alone would move it too far."""

LOW_SEPARATION = 0.6
"""Below this, words do not tell."""

_ROUNDING = 1e-12


def log_ratios(target_D: Counts, pool_D: Counts, smoothing: float, smooths: Literal["counts", "shares"]) -> Floats:
    """How much more often each bucket is met in the target than in the pool, in nats.

    With counts: ``log((c + a) / sum(c + a))`` of the target, less that of the pool. With shares, as in DSIR's released
    code (``data_selection/hashed_ngram_dsir.py``): ``log(c / sum(c) + a)``, likewise.

    Args:
        target_D: Counts of the target, one positive.
        pool_D: Counts of the pool, one positive.
        smoothing: a.
        smooths: What it is added to.
    """
    return _log_shares(target_D, smoothing, smooths) - _log_shares(pool_D, smoothing, smooths)


def _log_shares(counts_D: Counts, smoothing: float, smooths: Literal["counts", "shares"]) -> Floats:
    if smooths == "shares":
        return np.asarray(np.log(counts_D / counts_D.sum() + smoothing))
    smoothed_D = counts_D + smoothing
    return np.asarray(np.log(smoothed_D / smoothed_D.sum()))


def log_weights(scores_P: Floats, temperature: float | None) -> Floats:
    """Log weights of a draw: ``score / (temperature * deviation)``, or the scores; -inf for a row without a score.

    Where all scores are the same, all weights are; so they are where only rounding lies between the scores.
    """
    finite = np.isfinite(scores_P)
    if temperature is None:
        return np.where(finite, scores_P, -np.inf)
    known = scores_P[finite]
    spread = float(known.std()) if len(known) else 0.0
    if spread <= _ROUNDING * float(np.abs(known).max(initial=0.0)):
        return np.where(finite, 0.0, -np.inf)
    return np.where(finite, (scores_P - known.mean()) / spread / temperature, -np.inf)


def auc(target_V: Floats, pool_P: Floats) -> float:
    """``P(target > pool) + P(equal) / 2`` for one row of each, drawn at random; NaN rows are left out.

    Returns:
        From 0 to 1; .5 is chance. NaN if either has no row.
    """
    target, pool = target_V[np.isfinite(target_V)], np.sort(pool_P[np.isfinite(pool_P)])
    if not len(target) or not len(pool):
        return float("nan")
    below = np.searchsorted(pool, target, side="left") + np.searchsorted(pool, target, side="right")
    return float(below.mean() / 2 / len(pool))


def halves(rows: int, rng: np.random.Generator) -> Counts:
    """Put each of some rows into one of two halves, 0 or 1; equal in size but for one row."""
    return rng.permutation(rows) % 2
