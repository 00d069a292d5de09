"""Rows of the domains in the order they are read: pass after pass, each in an order of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.rng import key_seed

Whole = npt.NDArray[np.int64]

_AHEAD = 4096  # rows whose lengths are looked up at once


class DomainRows:
    """Reads each domain without repeating a row before all of them have been read: a :class:`RowSource`.

    The order of a pass is a permutation keyed by (seed, name of the domain, pass): it depends neither on the other
    domains nor on their order. Those of the passes under way are kept, at 4 bytes a row.

    Attributes:
        sizes: Rows of each domain.
        offsets: Where each domain begins in the pool, which is all domains in a row.
        epochs: Whole passes over each domain so far.
        cursors: Rows of the current pass that have been read.
    """

    def __init__(self, sizes: Whole, names: Sequence[str], seed: int) -> None:
        self.sizes, self.names, self.seed = sizes, tuple(names), seed
        self.offsets: Whole = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.epochs: Whole = np.zeros(len(sizes), np.int64)
        self.cursors: Whole = np.zeros(len(sizes), np.int64)
        self._orders: dict[int, tuple[int, npt.NDArray[np.integer[Any]]]] = {}

    def take(self, domain: int, rows: Whole) -> None:
        """Read on in a domain: fill ``rows`` with its next rows, as rows of the pool."""
        size, epoch, cursor, done = int(self.sizes[domain]), int(self.epochs[domain]), int(self.cursors[domain]), 0
        while done < len(rows):
            some = min(len(rows) - done, size - cursor)
            order = self._order(domain, epoch)[cursor : cursor + some]
            np.add(order, self.offsets[domain], out=rows[done : done + some])
            done, cursor = done + some, cursor + some
            if cursor == size:
                epoch, cursor = epoch + 1, 0
        self.epochs[domain], self.cursors[domain] = epoch, cursor

    def skip(self, domain: int, count: int) -> None:
        """Count rows of a domain as read that came from elsewhere."""
        passes, cursor = divmod(int(self.cursors[domain]) + count, int(self.sizes[domain]))
        self.epochs[domain] += passes
        self.cursors[domain] = cursor

    def lengths_ahead(self, domain: int, lengths: Whole, limit: int) -> Iterator[int]:
        """Lengths of the next ``limit`` rows of a domain, without reading on."""
        size, epoch, cursor = int(self.sizes[domain]), int(self.epochs[domain]), int(self.cursors[domain])
        own = lengths[self.offsets[domain] : self.offsets[domain] + size]
        while limit > 0:
            some = min(limit, size - cursor, _AHEAD)
            yield from own[self._order(domain, epoch)[cursor : cursor + some]].tolist()
            limit, cursor = limit - some, cursor + some
            if cursor == size:
                epoch, cursor = epoch + 1, 0

    def _order(self, domain: int, epoch: int) -> npt.NDArray[np.integer[Any]]:
        kept = self._orders.get(domain)
        if kept is not None and kept[0] == epoch:
            return kept[1]
        rng = np.random.default_rng(key_seed("order of a domain", self.seed, self.names[domain], epoch))
        size = int(self.sizes[domain])
        order: npt.NDArray[np.integer[Any]] = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)
        rng.shuffle(order)
        self._orders[domain] = epoch, order
        return order
