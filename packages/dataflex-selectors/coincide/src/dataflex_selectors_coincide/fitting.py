"""Clusters of the pool and the share of each: made once, kept in the run's checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.kmeans import kmeans
from dataflex_selectors_coincide.params import CoincideParams
from dataflex_selectors_coincide.shares import density, proportions, transferability

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fit:
    """What every boundary of a run takes its rows by.

    Attributes:
        labels: The cluster of each row, -1 for a row without an embedding; shape [pool].
        shares: Of each cluster, shape [K].
        transfer: Mean similarity with other clusters, over clusters.
        density: Mean kernel within a cluster, over clusters.
        rounds: Of k-means.
    """

    labels: Rows
    shares: Values
    transfer: float
    density: float
    rounds: int

    @property
    def sizes(self) -> Rows:
        """Rows of each cluster, shape [K]."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.shares)).astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Arrays and numbers, by name."""
        facts = [self.transfer, self.density, float(self.rounds)]
        return {"labels": self.labels, "shares": self.shares, "fit": facts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Fit | None:
        """Take back what :meth:`state_dict` gave; ``None`` for the state of a run before its first boundary."""
        if "labels" not in state:
            return None
        transfer, dense, rounds = (float(number) for number in state["fit"])
        return cls(np.asarray(state["labels"], np.int64), np.asarray(state["shares"]), transfer, dense, int(rounds))


def fit(
    rows: npt.NDArray[Any], params: CoincideParams, rng_of: Callable[..., np.random.Generator], device: Any = None
) -> Fit:
    """Cluster the rows and say what each cluster gets.

    Args:
        rows: Shape [pool, d], NaN for a row without an embedding, not all.
        params: What the run file says.
        rng_of: Gives a generator by names.
        device: Where to multiply.
    """
    known = int(np.isfinite(rows).all(axis=1).sum())
    wanted = params.num_clusters or -(-known // params.cluster_rows)
    found = kmeans(rows, min(wanted, known), rng_of("clusters"), max_rounds=params.max_rounds, device=device)
    dense = [
        density(rows[members], functools.partial(rng_of, "density", number))
        for number, members in enumerate(found.members())
    ]
    transfer = transferability(found.centres, params.same_above, device)
    shares = proportions(transfer, dense, params.temperature)
    return Fit(found.labels, shares, float(transfer.mean()), float(np.mean(dense)), found.rounds)
