"""Some rows of a pool as a data set of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rows_from(dataset: Any, first: int, count: int) -> Any:
    """The rows from ``first`` on, without copying any.

    Args:
        dataset: A map-style data set.
        first: The first row.
        count: How many.

    Returns:
        A data set of the ``datasets`` library for one of it, else a :class:`torch.utils.data.Subset`.
    """
    return rows_of(dataset, range(first, first + count))


def rows_of(dataset: Any, rows: Sequence[int]) -> Any:
    """Those rows, in that order, without copying any; as :func:`rows_from`."""
    if hasattr(dataset, "select") and hasattr(dataset, "column_names"):
        return dataset.select(rows)
    from torch.utils.data import Subset

    return Subset(dataset, rows)
