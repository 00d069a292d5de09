"""From scores of representatives to scores of clusters, and from these to rows.

Shapes: N rows, K clusters, R representatives, r of each cluster, S targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dataflex.math.aggregation import Rule, aggregate, round_robin
from dataflex.math.topk import top_k

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def represent(
    members: Sequence[Rows], nearest: Sequence[Rows], count: int, strategy: str, rng: np.random.Generator
) -> Rows:
    """Choose the representatives of every cluster, all rows of a cluster that has no more.

    Args:
        members: Rows of each cluster.
        nearest: Those nearest to its centre, the nearest first; at least ``count`` or all.
        count: Representatives of each (r).
        strategy: ``nearest``, ``random``, or ``mixed``: half of each, the odd one among the nearest.
        rng: Source of the draws.

    Returns:
        Rows, ascending.
    """
    found: list[Rows] = []
    near = {"nearest": count, "mixed": -(-count // 2), "random": 0}[strategy]
    for own, order in zip(members, nearest, strict=True):
        first = order[:near]
        others = np.setdiff1d(own, first)
        more = min(count - len(first), len(others))
        drawn = rng.choice(others, size=more, replace=False) if more > 0 else others[:0]
        found += [first, drawn]
    return np.sort(np.concatenate(found))


def cluster_scores(cosines_RS: Scores, clusters: Rows, count: int) -> Scores:
    """The mean of each cluster's representatives by target, shape [K, S]; NaN for a cluster without a finite one.

    Args:
        cosines_RS: A representative with a score that is not finite has none at all.
        clusters: The cluster of each representative, shape [R].
        count: Clusters (K).
    """
    finite = np.isfinite(cosines_RS).all(axis=1)
    sums = np.zeros((count, cosines_RS.shape[1]))
    np.add.at(sums, clusters[finite], cosines_RS[finite])
    counts = np.bincount(clusters[finite], minlength=count)[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def choose(scores_KS: Scores, labels: Rows, num_samples: int, rule: Rule, rng: np.random.Generator) -> Rows:
    """Choose rows by the scores of their clusters, those of equal score at random; in random order.

    Args:
        scores_KS: Of the clusters.
        labels: The cluster of each row, -1 for none; at least ``num_samples`` rows are of clusters with a score.
        num_samples: How many.
        rule: How targets count.
        rng: Source of the draws.
    """
    order = rng.permutation(np.flatnonzero(labels >= 0))
    scores_NS = scores_KS[labels[order]]
    if rule == "round_robin":
        chosen = order[round_robin(scores_NS, num_samples)]
    else:
        chosen = order[top_k(aggregate(scores_NS, rule), num_samples)]
    return rng.permutation(chosen)
