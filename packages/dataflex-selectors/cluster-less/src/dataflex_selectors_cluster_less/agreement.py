"""How well a cluster speaks for its rows: the intraclass correlation of its representatives' scores.

Shapes: R scores, k clusters with two or more of them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LEAST = 0.1
"""Below it, a warning: with 3 representatives a row's own score then correlates with its cluster's by .16 at most."""


def intraclass_correlation(scores: npt.ArrayLike, clusters: npt.ArrayLike) -> float | None:
    """``(B - W) / (B + (n0 - 1) W)`` of a one-way analysis of variance, over clusters with two scores or more.

    B and W are the mean squares between and within clusters, and ``n0 = (R - sum r^2 / R) / (k - 1)`` is what stands
    for the number of scores of a cluster. 1: rows of a cluster score alike; 0: no more than rows of different ones.

    Args:
        scores: Finite ones count, shape [R].
        clusters: The cluster of each, shape [R].

    Returns:
        ``None`` where fewer than two clusters have two scores, or all scores are equal.
    """
    values, labels = np.asarray(scores, np.float64), np.asarray(clusters, np.int64)
    finite = np.isfinite(values)
    _, own, counts = np.unique(labels[finite], return_inverse=True, return_counts=True)
    kept = counts[own] > 1
    values = values[finite][kept]
    _, own, counts = np.unique(labels[finite][kept], return_inverse=True, return_counts=True)
    total, groups = len(values), len(counts)
    if groups < 2:
        return None
    means = np.bincount(own, values) / counts
    between = float((counts * (means - values.mean()) ** 2).sum()) / (groups - 1)
    within = float(((values - means[own]) ** 2).sum()) / (total - groups)
    size = (total - float((counts**2).sum()) / total) / (groups - 1)
    below = between + (size - 1) * within
    return (between - within) / below if below > 0 else None


def of_rows(agreement: float, representatives: int) -> float:
    """By how much a row's own score correlates with its cluster's, the mean of so many others: 0 for no agreement."""
    if agreement <= 0:
        return 0.0
    return agreement / math.sqrt(agreement + (1 - agreement) / representatives)
