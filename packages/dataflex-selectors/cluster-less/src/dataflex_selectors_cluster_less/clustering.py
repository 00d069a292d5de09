"""Clusters of the pool, kept in the run's checkpoints where the model that embeds does not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.kmeans import kmeans, members_of, unit_rows
from dataflex.math.topk import top_k
from dataflex_selectors_cluster_less.params import ClusterLessParams

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Rows by cluster.

    Attributes:
        labels: The cluster of each row, -1 for a row without an embedding; shape [pool].
        nearest: The rows nearest to each cluster's centre, the nearest first, -1 where there are no more; shape [K, r].
        rounds: Of k-means.
    """

    labels: Rows
    nearest: Rows
    rounds: int

    @property
    def members(self) -> list[Rows]:
        """Rows of each cluster, ascending."""
        return members_of(self.labels, len(self.nearest))

    def state_dict(self) -> dict[str, Any]:
        """Arrays and numbers, by name."""
        return {"labels": self.labels, "nearest": self.nearest, "rounds": self.rounds}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Grouping | None:
        """Take back what :meth:`state_dict` gave; ``None`` where it gave nothing."""
        if "labels" not in state:
            return None
        return cls(np.asarray(state["labels"], np.int64), np.asarray(state["nearest"], np.int64), int(state["rounds"]))


def group(rows: npt.NDArray[Any], params: ClusterLessParams, rng: np.random.Generator, device: Any = None) -> Grouping:
    """Cluster the rows.

    Args:
        rows: Shape [pool, d], NaN for a row without an embedding, not all.
        params: What the run file says.
        rng: Source of the first centres.
        device: Where to multiply.
    """
    known = int(np.isfinite(rows).all(axis=1).sum())
    wanted = params.num_clusters or -(-known // params.cluster_rows)
    found = kmeans(rows, min(wanted, known), rng, max_rounds=params.max_rounds, device=device)
    nearest = np.full((len(found.centres), params.representatives), -1, np.int64)
    for cluster, members in enumerate(found.members()):
        products = unit_rows(rows[members]) @ found.centres[cluster]
        order = members[top_k(products, min(params.representatives, len(members)))]
        nearest[cluster, : len(order)] = order
    return Grouping(found.labels, nearest, found.rounds)
