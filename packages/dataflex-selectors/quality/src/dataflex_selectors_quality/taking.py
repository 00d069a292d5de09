"""Taking rows in an order of preference, over several boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Free = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Taken:
    """Rows taken.

    Attributes:
        rows: In the order of preference, none twice.
        free: Which rows of the pool the next boundary prefers, shape ``[pool]``.
        began_again: Whether no free row was left, so that all were free again.
    """

    rows: Rows
    free: Free
    began_again: bool


def take(order: Rows, free: Free, count: int) -> Taken:
    """Take the first free rows of an order; when none is left, all are free again.

    Args:
        order: Rows, best first, none twice, at least ``count``.
        free: Which rows no earlier boundary took, shape ``[pool]``.
        count: How many to take.
    """
    first = order[free[order]][:count]
    left, missing = free.copy(), count - len(first)
    left[first] = False
    if not missing:
        return Taken(first, left, began_again=False)
    again = order[~np.isin(order, first)][:missing]
    left = np.ones_like(free)
    left[again] = False
    return Taken(np.concatenate([first, again]), left, began_again=True)
