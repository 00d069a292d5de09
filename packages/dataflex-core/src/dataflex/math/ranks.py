"""Ranks with ties, and how far two orders agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_ranks(values: npt.ArrayLike) -> Floats:
    """Ranks from 0, the lowest value first; equal values get the mean of their ranks.

    One less than ``scipy.stats.rankdata``, without loading it.

    Args:
        values: Shape [N], no NaN.
    """
    given = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(given, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse.reshape(given.shape)])


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Spearman's rank correlation; ``None`` where one side is constant, so that it has none.

    Args:
        first: Shape [N], finite.
        second: Likewise.
    """
    one, other = mean_ranks(first), mean_ranks(second)
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(np.clip(one @ other / size, -1.0, 1.0)) if size > 0 else None
