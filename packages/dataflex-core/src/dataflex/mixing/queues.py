"""Rows that were chosen, per domain, in the order in which they are to be trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]


class Queues:
    """Queues of chosen rows, one for each domain: a :class:`~dataflex.mixing.row_source.RowSource`.

    A queue that comes to its end begins again, so that every row of it is served before any is served twice.

    Args:
        names: The domains.

    Attributes:
        recycled: By domain, the rows served that its queue had served before; since it was last filled.
        served: By domain, the rows served since then.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._rows: list[Whole] = [np.zeros(0, np.int64) for _ in self.names]
        self.served: Whole = np.zeros(len(self.names), np.int64)

    @property
    def recycled(self) -> Whole:
        """See the class."""
        return np.maximum(self.served - self.sizes, 0)

    @property
    def sizes(self) -> Whole:
        """Rows of each queue, served ones included."""
        return np.array([len(rows) for rows in self._rows], np.int64)

    def rows(self, domain: int) -> Whole:
        """The queue of a domain from its first row on."""
        return self._rows[domain]

    def fill(self, domain: int, rows: npt.ArrayLike) -> None:
        """Put other rows in place of a queue; what was left in it is dropped.

        Args:
            domain: Its index.
            rows: Rows of the pool in the order to train on; empty only for a domain that nothing is taken from.
        """
        self._rows[domain] = np.array(rows, np.int64)
        self.served[domain] = 0

    def take(self, domain: int, rows: Whole) -> None:
        """Read on in a queue: fill ``rows`` with its next rows.

        Raises:
            ValueError: when nothing was put into it.
        """
        queue, at = self._queue(domain), int(self.served[domain])
        rows[:] = queue[(at + np.arange(len(rows))) % len(queue)]
        self.served[domain] += len(rows)

    def lengths_ahead(self, domain: int, lengths: Whole, limit: int) -> Iterator[int]:
        """Lengths of the next ``limit`` rows, without reading on. Of an empty queue none is known."""
        if not len(self._rows[domain]):
            return iter(())
        queue = self._rows[domain]
        start = int(self.served[domain]) % len(queue)
        ahead = lengths[np.roll(queue, -start)].tolist()
        return itertools.islice(itertools.cycle(ahead), limit)

    def state_dict(self) -> dict[str, Any]:
        """The queues, as JSON values."""
        return {"rows": [rows.tolist() for rows in self._rows], "served": self.served.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._rows = [np.array(rows, np.int64) for rows in state["rows"]]
        self.served = np.array(state["served"], np.int64)

    def _queue(self, domain: int) -> Whole:
        queue = self._rows[domain]
        if not len(queue):
            raise ValueError(f"the queue of domain {self.names[domain]!r} is empty")
        return queue
