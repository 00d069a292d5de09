"""TSDS's transport problem, solved exactly: how much of each query goes to which of its nearest rows.

Minimise over gamma >= 0 and tau

    (alpha / C) * sum_ji gamma_ji d_ji + (1 - alpha) * tau,    sum_i gamma_ji = 1 / M,    M rho_i gamma_ji <= tau

for M queries j, rows i at distance d_ji and of density rho_i. For a given tau each query fills its rows from the
nearest on, each up to its bound, so all that is to be found is one number, s = 1 / tau. Past S_jk, the sum of 1 / rho
over the k nearest rows of query j, it needs its next row, and spreading it further costs

    cost_jk = d_j,k+1 S_jk - sum of d / rho over its k nearest.

The S_jk of all queries are visited in rising order, until (alpha / C) sum_j cost_j reaches what spread is worth, (1 -
alpha) M. Where both are equal the optimum is not unique, and rounding decides.

Source: Liu, Karbasi & Rekatsinas, "TSDS: Data Selection for Task-Specific Model Finetuning", NeurIPS 2024 (arXiv
2410.11303), algorithm KNN-KDE.

Shapes: M queries, K nearest rows of each, N rows of the pool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Transport:
    """The solution.

    Attributes:
        shares: What part of a query's mass goes to each of its nearest rows (M gamma), shape [M, K]; rows sum to 1.
        stop: s, the spread: with densities of 1, over how many rows a query's mass is spread.
        ended: Whether the search ended because a query had no further row: with more neighbours it might go on.
    """

    shares: Values
    stop: float
    ended: bool


def transport(distances_MK: Values, densities_MK: Values, alpha: float, scale: float) -> Transport:
    """Solve the problem for queries and their nearest rows, nearest first.

    Args:
        distances_MK: Distances (not squared), rising along a row.
        densities_MK: Densities of the same rows, at least 1.
        alpha: Weight of nearness, from 0 to 1.
        scale: C; only distance / C matters.
    """
    inverse_MK = 1.0 / densities_MK
    sums_MK = np.cumsum(inverse_MK, axis=1)
    spent_MK = np.cumsum(distances_MK * inverse_MK, axis=1)
    costs_MK = np.full(sums_MK.shape, math.inf)  # of the last one: there is no further row
    costs_MK[:, :-1] = distances_MK[:, 1:] * sums_MK[:, :-1] - spent_MK[:, :-1]
    grown_MK = costs_MK.copy()
    grown_MK[:, 1:] -= costs_MK[:, :-1]
    order = np.argsort(sums_MK, axis=None, kind="stable")
    costs = np.cumsum(grown_MK.ravel()[order])
    reached = alpha / scale * costs >= (1.0 - alpha) * len(distances_MK) if alpha > 0 else np.isinf(costs)
    place = int(np.argmax(reached))
    stop = float(sums_MK.ravel()[order[place]])
    before_MK = sums_MK - inverse_MK
    shares_MK = np.clip(np.minimum(inverse_MK / stop, 1.0 - before_MK / stop), 0.0, None)
    return Transport(shares_MK / shares_MK.sum(axis=1, keepdims=True), stop, not math.isfinite(costs[place]))


def probabilities(rows_MK: Rows, shares_MK: Values, size: int) -> Values:
    """Each row's part of the whole mass, shape [size]; sums to 1."""
    summed = np.bincount(rows_MK.ravel(), weights=shares_MK.ravel(), minlength=size)
    return np.asarray(summed / summed.sum())
