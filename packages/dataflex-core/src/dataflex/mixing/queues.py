"""Rows that were chosen, per domain, in the order in which they are to be trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.mixing.packed import packed, unpacked
from dataflex.mixing.queue_weights import Floats, QueueWeights
from dataflex.rng import key_seed

Whole = npt.NDArray[np.int64]


class Queues:
    """Queues of chosen rows, one for each domain: a :class:`~dataflex.mixing.row_source.RowSource`.

    A queue that comes to its end begins again, so that every row of it is served before any is served twice: in the
    same order, or in a new one at each pass, as a mixture reads a domain.

    Args:
        names: The domains.
        seed: Seeds the orders of passes.
        spare: Gives the rows of a domain whose queue is empty when one is due, as nothing was expected of it.

    Attributes:
        served: By domain, the rows served since its queue was filled.
        weights: What the places of the queues weigh.
    """

    def __init__(
        self, names: Sequence[str], *, seed: int = 0, spare: Callable[[int], npt.ArrayLike] | None = None
    ) -> None:
        self.names, self._seed, self._spare = tuple(names), seed, spare
        self._rows: list[Whole] = [np.zeros(0, np.int64) for _ in self.names]
        self._keys: list[int | None] = [None for _ in self.names]
        self.served: Whole = np.zeros(len(self.names), np.int64)
        self.weights = QueueWeights(len(self.names))

    @property
    def sizes(self) -> Whole:
        """Rows of each queue, served ones included."""
        return np.array([len(rows) for rows in self._rows], np.int64)

    @property
    def recycled(self) -> Whole:
        """By domain, the rows served that its queue had served before."""
        again: Whole = np.maximum(self.served - self.sizes, 0)
        return again

    def rows(self, domain: int) -> Whole:
        """All rows of a queue."""
        return self._rows[domain]

    def fill(self, domain: int, rows: npt.ArrayLike, *, key: int | None = None, weights: Floats | None = None) -> None:
        """Put other rows in place of a queue; what was left in it is dropped.

        Args:
            domain: Its index.
            rows: Rows of the pool.
            key: Names the orders of its passes; ``None`` keeps the order given, in every pass.
            weights: Of each row; ``None`` where none was given.
        """
        self._rows[domain], self._keys[domain] = np.array(rows, np.int64), key
        self.served[domain] = 0
        self.weights.fill(domain, weights)

    def take(self, domain: int, rows: Whole) -> None:
        """Read on in a queue: fill ``rows`` with its next rows.

        Raises:
            ValueError: when nothing was put into it, and there is no spare.
        """
        size, done = self._filled(domain), 0
        if not size and len(rows):
            raise ValueError(f"the queue of domain {self.names[domain]!r} is empty")
        while done < len(rows):
            number, at = divmod(int(self.served[domain]), size)
            some = min(len(rows) - done, size - at)
            places = self._pass(domain, number)[at : at + some]
            rows[done : done + some] = self._rows[domain][places]
            self.weights.take(domain, places)
            self.served[domain] += some
            done += some

    def lengths_ahead(self, domain: int, lengths: Whole, limit: int) -> Iterator[int]:
        """Lengths of the next ``limit`` rows, without reading on; none of an empty queue."""
        size = self._filled(domain)
        number, at = divmod(int(self.served[domain]), max(size, 1))
        while limit > 0 and size:
            some = min(limit, size - at)
            yield from lengths[self._rows[domain][self._pass(domain, number)[at : at + some]]].tolist()
            limit, number, at = limit - some, number + 1, 0

    def position(self) -> Any:
        """Where each queue has come to, as JSON values."""
        return self.served.tolist()

    def go_to(self, position: Any) -> None:
        """Go back to there; the queues hold what they held then."""
        self.served = np.array(position, np.int64)

    def state_dict(self) -> dict[str, Any]:
        """The queues, as JSON values."""
        rows = [packed(queue) for queue in self._rows]
        state = {"rows": rows, "keys": list(self._keys), "served": self.served.tolist()}
        return {**state, "weights": self.weights.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._rows = [unpacked(text).astype(np.int64) for text in state["rows"]]
        self._keys = [None if key is None else int(key) for key in state["keys"]]
        self.served = np.array(state["served"], np.int64)
        self.weights.load_state_dict(state["weights"])

    def _filled(self, domain: int) -> int:
        """Rows of a queue, once an empty one has been filled with the spare ones."""
        if not len(self._rows[domain]) and self._spare is not None:
            self.fill(domain, self._spare(domain))
        return len(self._rows[domain])

    def _pass(self, domain: int, number: int) -> Whole:
        """Places of a queue in the order in which a pass reads them."""
        size, key = len(self._rows[domain]), self._keys[domain]
        if key is None:
            return np.arange(size)
        rng = np.random.default_rng(key_seed("pass of a queue", self._seed, self.names[domain], key, number))
        return rng.permutation(size)
