"""What each cluster gets: similar to others and diverse in itself, more.

Shapes: K clusters, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.math.apportion import apportion
from dataflex.math.kmeans import unit_rows
from dataflex.math.mmd import kernel_means
from dataflex.math.neighbours import in_fp64

DENSITY_ROWS = 4096
"""Rows of a cluster that its density is measured on, at most."""

_BLOCK = 2**23  # products of one block: 64 MB

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def transferability(centres: npt.NDArray[Any], same_above: float, device: Any = None) -> Values:
    """The mean cosine of each centre with the other ones that are no copies of it, shape [K]; 0 where there are none.

    Args:
        centres: Unit vectors, shape [K, d].
        same_above: Other centres with a cosine above this are left out.
        device: Where to multiply.
    """
    units = in_fp64(centres, device, normalise=True)
    found, size = [np.zeros(0)], max(1, _BLOCK // len(centres))
    for start in range(0, len(centres), size):
        cosines = units[start : start + size] @ units.T
        counts = cosines <= same_above
        places = torch.arange(len(cosines), device=cosines.device)
        counts[places, places + start] = False
        total = torch.where(counts, cosines, 0.0).sum(dim=1)
        found.append((total / counts.sum(dim=1).clamp(min=1)).cpu().numpy())
    return np.concatenate(found)


def density(rows: npt.NDArray[Any], rng_of: Callable[[], np.random.Generator]) -> float:
    """The mean Gaussian kernel over all pairs of a cluster's rows, each with itself too: 1 for one row.

    Args:
        rows: Shape [n, d].
        rng_of: Gives the generator that draws the rows it is measured on, where there are more than 4,096.
    """
    if len(rows) > DENSITY_ROWS:
        rows = rows[np.sort(rng_of().choice(len(rows), size=DENSITY_ROWS, replace=False))]
    return float(kernel_means(unit_rows(rows)).mean())


def proportions(transfer: npt.ArrayLike, densities: npt.ArrayLike, temperature: float) -> Values:
    """The softmax of ``transfer / (temperature * density)``, shape [K]."""
    logits = np.asarray(transfer, np.float64) / (temperature * np.asarray(densities, np.float64))
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def allot(shares: Values, sizes: Counts, caps: Counts, count: int) -> Counts:
    """Divide ``count`` rows among clusters by share, none above its cap, shape [K].

    Where clusters with a share above 0 (to rounding) have too few rows, the rest goes to the others by size.
    """
    room = np.where(shares > 0, caps, 0)
    if count <= room.sum():
        return apportion(shares, caps, count)
    others = np.where(shares > 0, 0, sizes)
    return room + apportion(others, caps - room, count - int(room.sum()))


def serve(shares: Values, sizes: Counts, served: Counts, count: int) -> list[tuple[Counts, Counts]]:
    """Which part of each cluster's order a stage takes, going on where the last one stopped.

    Args:
        shares: Of each cluster.
        sizes: Rows of each cluster.
        served: Rows of each that were taken before.
        count: Rows to take, at most those of all clusters.

    Returns:
        Pairs (first, end) of places in each cluster's order, each of shape [K]; two pairs where no row was left and all
        were free again, none of which the first one took.
    """
    left = sizes - served
    first = allot(shares, sizes, left, min(count, int(left.sum())))
    parts: Sequence[tuple[Counts, Counts]] = [(served, served + first)]
    missing = count - int(first.sum())
    if missing:
        again = allot(shares, sizes, served, missing)
        parts = [*parts, (np.zeros_like(again), again)]
    return list(parts)
