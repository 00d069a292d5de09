"""Spherical k-means: clusters of unit rows by cosine, on NumPy and the blocked products of :mod:`.neighbours`.

A round costs 2·N·K·d operations, so above 4,096 clusters the rows are first put into about √K coarse ones, and each of
these is cut into its share of K. Source: Dhillon & Modha 2001, "Concept decompositions for large sparse text data using
clustering".

Shapes: N rows, K clusters, d numbers of a row.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.apportion import apportion
from dataflex.math.neighbours import neighbours

ROUNDS = 25
"""Rounds at most."""

TWO_STEPS = 4096
"""Above so many clusters, coarse ones are made first."""

_NUMBERS = 2**23  # numbers of one block of rows in fp64, and of one block of products: 64 MB
_SHORTEST = 1e-12  # a sum of rows shorter than this points nowhere

Labels = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Rows by cluster; none is empty.

    Attributes:
        labels: The cluster of each row, shape [N]; -1 for a row that is not finite.
        centres: Unit vectors, shape [K, d]: the mean direction of each cluster's rows.
        rounds: How many it took; of the longest part where it took two steps.
    """

    labels: Labels
    centres: Values
    rounds: int

    @property
    def sizes(self) -> Labels:
        """Rows of each cluster, shape [K]."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.centres)).astype(np.int64)

    def members(self) -> list[Labels]:
        """Rows of each cluster, ascending."""
        return members_of(self.labels, len(self.centres))


def kmeans(
    rows: npt.NDArray[Any],
    clusters: int,
    rng: np.random.Generator,
    *,
    max_rounds: int = ROUNDS,
    start: npt.ArrayLike | None = None,
    two_steps_above: int = TWO_STEPS,
    device: Any = None,
) -> Clusters:
    """Cluster rows by direction: each belongs to the centre with the highest cosine, each centre is a mean direction.

    Centres begin as distinct rows drawn at random. A round assigns every row to its nearest centre (ties: the lower
    cluster) and makes the centres anew; it ends when no row moves. A cluster without rows takes the row that its own
    centre serves worst, from a cluster of several. The sum of cosines never falls.

    Args:
        rows: Of any length but 0, any floating dtype, shape [N, d]; a row that is not finite belongs to no cluster.
        clusters: How many, at most the finite rows.
        rng: Source of the first centres.
        max_rounds: Rounds at most.
        start: Rows that are the first centres, in place of drawn ones, in one step; shape [K].
        two_steps_above: Above so many clusters, coarse ones are made first.
        device: Where to multiply; ``None`` for the CPU.

    Raises:
        ValueError: for no cluster, or more than there are finite rows.
    """
    known = np.flatnonzero(np.isfinite(rows).all(axis=1))
    if not 1 <= clusters <= len(known):
        raise ValueError(f"cannot make {clusters} clusters of {len(known)} rows that are finite")
    labels = np.full(len(rows), -1, np.int64)
    if clusters <= two_steps_above or start is not None:
        first = rng.choice(known, size=clusters, replace=False) if start is None else np.asarray(start, np.int64)
        labels[known], centres, rounds = _lloyd(rows, known, first, max_rounds, device)
        return Clusters(labels, centres, rounds)
    coarse = kmeans(rows[known], round(clusters**0.5), rng, max_rounds=max_rounds, device=device)
    shares = 1 + apportion(coarse.sizes, coarse.sizes - 1, clusters - len(coarse.centres))
    found, rounds, done = [np.zeros((0, rows.shape[1]))], coarse.rounds, 0
    for members, share in zip(coarse.members(), shares.tolist(), strict=True):
        those = known[members]
        part = kmeans(rows[those], share, rng, max_rounds=max_rounds, two_steps_above=clusters, device=device)
        labels[those] = part.labels + done
        found.append(part.centres)
        rounds, done = max(rounds, part.rounds), done + share
    return Clusters(labels, np.concatenate(found), rounds)


def members_of(labels: Labels, clusters: int) -> list[Labels]:
    """Rows of each cluster, ascending; rows without one are left out.

    Args:
        labels: The cluster of each row, -1 for none, shape [N].
        clusters: How many there are.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(clusters + 1))
    return [order[start:stop] for start, stop in itertools.pairwise(ends)]


def unit_rows(rows: npt.NDArray[Any]) -> Values:
    """The rows in fp64, brought to length 1, which fp16 rows are to 5e-4 only."""
    values = np.asarray(rows, np.float64)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def _lloyd(
    rows: npt.NDArray[Any], known: Labels, first: Labels, max_rounds: int, device: Any
) -> tuple[Labels, Values, int]:
    centres = unit_rows(rows[first])
    labels, rounds = np.full(len(known), -1, np.int64), 0
    while rounds < max_rounds:
        rounds += 1
        assigned, products = _assigned(rows, known, centres, device)
        _fill_empty(assigned, products, len(centres))
        if np.array_equal(assigned, labels):
            break
        labels = assigned
        centres = _means(rows, known, labels, centres)
    return labels, centres, rounds


def _assigned(rows: npt.NDArray[Any], known: Labels, centres: Values, device: Any) -> tuple[Labels, Values]:
    """The nearest centre of each row, and the cosine with it."""
    labels, products = np.zeros(len(known), np.int64), np.zeros(len(known))
    for piece in _pieces(len(known), max(rows.shape[1], len(centres))):
        found = neighbours(rows[known[piece]], centres, 1, normalise=True, device=device)
        labels[piece], products[piece] = found.rows[:, 0], found.products[:, 0]
    return labels, products


def _fill_empty(labels: Labels, products: Values, clusters: int) -> None:
    """Give each empty cluster the row worst served by its centre, among equals the lowest; changed in place."""
    sizes = np.bincount(labels, minlength=clusters)
    empty = np.flatnonzero(sizes == 0).tolist()
    order = iter(np.argsort(products, kind="stable").tolist() if empty else ())
    for cluster in empty:
        row = next(row for row in order if sizes[labels[row]] > 1)
        sizes[labels[row]] -= 1
        labels[row] = cluster


def _means(rows: npt.NDArray[Any], known: Labels, labels: Labels, old: Values) -> Values:
    """The mean direction of each cluster's rows; the old centre where they cancel out."""
    sums = np.zeros(old.shape)
    for piece in _pieces(len(known), rows.shape[1]):
        own = labels[piece]
        order = np.argsort(own, kind="stable")
        there, starts = np.unique(own[order], return_index=True)
        sums[there] += np.add.reduceat(unit_rows(rows[known[piece][order]]), starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths < _SHORTEST, old, sums / np.maximum(lengths, _SHORTEST))


def _pieces(total: int, width: int) -> list[slice]:
    size = max(1, _NUMBERS // max(width, 1))
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
