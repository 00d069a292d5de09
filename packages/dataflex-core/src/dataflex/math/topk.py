"""Turning scores into rows: plain ranking and exact weighted draws.

NumPy's fp64 throughout: ``torch.multinomial`` stops at 2^24 categories.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_ROUNDING = 1e-12


def top_k(scores: npt.ArrayLike, k: int) -> npt.NDArray[np.int64]:
    """The ``k`` rows of highest score, best first.

    Equal scores are ordered by index. NaN and both infinities come after every finite score, whatever their sign.

    Args:
        scores: Shape [N].
        k: How many, at most N.

    Returns:
        Indices, shape [k].
    """
    values = _vector(scores, k)
    keys = np.where(np.isfinite(values), -values, np.inf)
    return np.argsort(keys, kind="stable")[:k].astype(np.int64)


def gumbel_top_k(log_weights: npt.ArrayLike, k: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw ``k`` rows without replacement, each next one in proportion to its weight among those that are left.

    Exact: the order of ``log w + Gumbel noise`` has that very distribution (Kool et al. 2019, arXiv 1903.06059).
    Rows whose log weight is not finite (weight 0, or NaN) come last, in random order among themselves.

    Args:
        log_weights: Shape [N]; weights need not sum to 1.
        k: How many, at most N.
        rng: Source of the noise; one draw per row.

    Returns:
        Indices in the order drawn, shape [k].
    """
    values = _vector(log_weights, k)
    noise = rng.gumbel(size=len(values))
    finite = np.isfinite(values)
    drawn = np.flatnonzero(finite)
    order = drawn[np.argsort(-(values + noise)[drawn], kind="stable")]
    if k > len(drawn):
        others = np.flatnonzero(~finite)
        order = np.concatenate([order, others[np.argsort(noise[others], kind="stable")]])
    return order[:k].astype(np.int64)


def standardised_log_weights(scores: npt.ArrayLike, temperature: float) -> npt.NDArray[np.float64]:
    """Log weights of a draw by score: a standard deviation more weighs ``exp(1 / temperature)`` times as much.

    Args:
        scores: Shape [N]; one at least finite.
        temperature: Above 0.

    Returns:
        Shape [N]; all the same where all scores are, to rounding, and -inf for a score that is not finite.
    """
    values = np.asarray(scores, np.float64)
    finite = np.isfinite(values)
    known = values[finite]
    spread = float(known.std())
    if spread <= _ROUNDING * float(np.abs(known).max(initial=0.0)):
        return np.where(finite, 0.0, -np.inf)
    return np.where(finite, (values - known.mean()) / spread / temperature, -np.inf)


def weighted_with_replacement(weights: npt.ArrayLike, k: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw ``k`` rows independently, in proportion to their weights.

    Args:
        weights: Shape [N], not negative; a weight that is not finite counts as 0 and is never drawn.
        k: How many; may exceed N.
        rng: Source of the draws.

    Returns:
        Indices, shape [k].

    Raises:
        ValueError: if a weight is negative, or none is positive.
    """
    values = np.asarray(weights, dtype=np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    positive = np.flatnonzero(values > 0)
    if values.ndim != 1 or len(positive) == 0 or (values < 0).any():
        raise ValueError("weights must be a vector without negative entries and with a positive one")
    cumulative = np.cumsum(values[positive])
    picks = np.searchsorted(cumulative, rng.random(k) * cumulative[-1], side="right")
    drawn: npt.NDArray[np.int64] = positive[np.minimum(picks, len(positive) - 1)].astype(np.int64)
    return drawn


def _vector(values: npt.ArrayLike, k: int) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one value per row, got an array of shape {array.shape}")
    if not 0 <= k <= len(array):
        raise ValueError(f"cannot take {k} of {len(array)} rows without replacement")
    return array
