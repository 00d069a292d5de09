"""Which row of a domain comes next: whoever decides it, behind one protocol."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]


class RowSource(Protocol):
    """Gives the rows of each domain in an order of its own, for ever."""

    def take(self, domain: int, rows: Whole) -> None:
        """Read on in a domain: fill ``rows`` with its next rows, as rows of the pool."""

    def lengths_ahead(self, domain: int, lengths: Whole, limit: int) -> Iterator[int]:
        """Lengths of the next ``limit`` rows of a domain, without reading on.

        Args:
            domain: Its index.
            lengths: Of every row of the pool.
            limit: How many.
        """


class TypicalRows:
    """A :class:`RowSource` whose rows are all of their domain's mean length; which rows they are is not asked.

    Args:
        lengths: Trained tokens of every row of the pool; ``None`` where they are not known and not asked for.
        sizes: Rows of each domain.
        offsets: First row of each.
    """

    def __init__(self, lengths: Whole | None, sizes: Whole, offsets: Whole) -> None:
        self._means = None if lengths is None else np.add.reduceat(lengths, offsets) / sizes
        self._offsets = offsets

    def take(self, domain: int, rows: Whole) -> None:
        """The first row of the domain, again and again."""
        rows[:] = self._offsets[domain]

    def lengths_ahead(self, domain: int, lengths: Whole, limit: int) -> Iterator[int]:
        """The mean length, rounded, at least 1."""
        assert self._means is not None  # asked by tokens only
        return itertools.repeat(max(1, round(float(self._means[domain]))), limit)
