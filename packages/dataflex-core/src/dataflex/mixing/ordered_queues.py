"""Rows of several domains, each domain in an orderer's order on its own places: whose turn it is stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.ordering import Floats, Order, Whole
from dataflex.mixing.ordered_rows import OrderedRows, pack, unpack
from dataflex.mixing.queue_weights import QueueWeights


class OrderedQueues:
    """Queues of rows, one for each domain, put in order: a row source for a mixture's sampler.

    What fills a queue is a pass: all rows of a domain where there is no selector, a part of them that it keeps, or one
    selection. A queue that comes to its end begins again, ranked anew. How a composed run uses it, with ``order_of``
    from :mod:`dataflex.trainers.planners.ordering`::

        queues = OrderedQueues(names, lambda domain, rows: order_of(asking, contexts[domain].rng_of, rows=rows, ...))
        queues.fill(domain, rows, scores, number=boundary)    # mix, select: then order
        queues.score(domain, scores)                          # at later boundaries, by: loss
        sampler.draw(shares, num_samples, queues)             # whose turn it is was settled before

    Args:
        names: The domains.
        order: From (domain, its rows) to what puts places of that queue in order.
        direction: Which scores have the first ranks.

    Attributes:
        served: By domain, the rows served since its queue was filled.
        weights: What the places of the queues weigh.
    """

    def __init__(self, names: Sequence[str], order: Callable[[int, Whole], Order], *, direction: str) -> None:
        self.names, self._order, self._direction = tuple(names), order, direction
        self._rows: list[Whole] = [np.zeros(0, np.int64) for _ in self.names]
        self._queues: list[OrderedRows | None] = [None for _ in self.names]
        self.weights = QueueWeights(len(self.names))

    @property
    def served(self) -> Whole:
        """By domain, the rows served since its queue was filled."""
        return np.array([0 if queue is None else queue.taken for queue in self._queues], np.int64)

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
        """All rows of a queue, in the order they came in."""
        return self._rows[domain]

    def fill(
        self,
        domain: int,
        rows: npt.ArrayLike,
        scores: Floats | None = None,
        *,
        number: int = 0,
        places: int | None = None,
        weights: Floats | None = None,
    ) -> None:
        """Put other rows in place of a queue; what was left in it is dropped.

        Args:
            domain: Its index.
            rows: Rows of the pool, in the order that decides ties.
            scores: Of each of them; ``None`` where there are none yet.
            number: Of the first pass, which names what is drawn for it: another for each selection.
            places: Rows that will be taken of it in all; ``None`` where the shares may move, and nothing is thinned.
            weights: Of each row; ``None`` where none was given.
        """
        own = np.array(rows, np.int64)
        self._rows[domain] = own
        self.weights.fill(domain, weights)
        if not len(own):
            self._queues[domain] = None
            return
        queue = self._made(domain, places)
        queue.number = number
        if scores is not None:
            queue.score(np.asarray(scores, np.float64))
        self._queues[domain] = queue

    def to_score(self, domain: int, count: int) -> Whole:
        """Rows of the pool whose scores the next ``count`` rows of a domain depend on."""
        queue = self._queues[domain]
        return np.zeros(0, np.int64) if queue is None else self._rows[domain][queue.to_score(count)]

    def score(self, domain: int, scores: Floats) -> None:
        """Rank what is left of a queue by present scores, one for each of its rows (NaN for none)."""
        queue = self._queues[domain]
        if queue is not None:
            queue.score(scores)

    def rest(self, domain: int) -> tuple[Whole, Floats]:
        """Rows left of a queue's pass, in order, with their scores: for the record."""
        queue = self._queues[domain]
        if queue is None:
            return np.zeros(0, np.int64), np.zeros(0)
        places = queue.rest()
        return self._rows[domain][places], queue.scores[places]

    def take(self, domain: int, rows: Whole) -> None:
        """Read on in a queue: fill ``rows`` with its next rows.

        Raises:
            ValueError: when nothing was put into it.
        """
        if not len(rows):
            return
        queue = self._queues[domain]
        if queue is None:
            raise ValueError(f"the queue of domain {self.names[domain]!r} is empty")
        places = queue.take(len(rows))
        rows[:] = self._rows[domain][places]
        self.weights.take(domain, places)

    def lengths_ahead(self, domain: int, lengths: Whole, limit: int) -> Iterator[int]:
        """Lengths of the next ``limit`` rows, without reading on; none of an empty queue."""
        queue = self._queues[domain]
        if queue is not None:
            for places in queue.ahead(limit):
                yield from lengths[self._rows[domain][places]].tolist()

    def position(self) -> Any:
        """Where each queue has come to, as JSON values."""
        return [queue and queue.state_dict() for queue in self._queues]

    def go_to(self, position: Any) -> None:
        """Go back to there; the queues hold what they held then."""
        for queue, saved in zip(self._queues, position, strict=True):
            if queue is not None and saved is not None:
                queue.load_state_dict(saved)

    def extend(self, domain: int, places: int | None) -> None:
        """Note that so many rows will be taken of a queue in all."""
        queue = self._queues[domain]
        if queue is not None:
            queue.extend(places)

    def state_dict(self) -> dict[str, Any]:
        """The queues with their scores, as JSON values."""
        return {
            "rows": [pack(rows) for rows in self._rows],
            "queues": [queue and queue.state_dict() for queue in self._queues],
            "scores": [queue and queue.pack_scores() for queue in self._queues],
            "weights": self.weights.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._rows = [unpack(text, np.int64) for text in state["rows"]]
        self.weights.load_state_dict(state["weights"])
        for domain, (saved, scores) in enumerate(zip(state["queues"], state["scores"], strict=True)):
            queue = None if saved is None else self._made(domain, None)
            if queue is not None:
                queue.load_state_dict(saved)
                queue.unpack_scores(scores)
            self._queues[domain] = queue

    def _made(self, domain: int, places: int | None) -> OrderedRows:
        rows = self._rows[domain]
        return OrderedRows(len(rows), self._order(domain, rows), direction=self._direction, places=places)
