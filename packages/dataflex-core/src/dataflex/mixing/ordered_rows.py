"""Rows of one queue in an orderer's order: pass after pass, going on over boundaries, thinned where a pass is short."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dataflex.math.ordering import Floats, Order, Whole, ranked, thinned


class OrderedRows:
    """Serves the rows of one queue in order. A domain of a mixed run has one of its own, and so its own places.

    How it is used, in a run of one queue or, for each domain, in a composed run::

        queue = OrderedRows(size, order, places=None)
        at a boundary:  places = queue.to_score(count)   # whose scores the next ``count`` rows depend on
                        queue.score(scores)              # [size], NaN for none: what is left of the pass is ranked anew
                        queue.take(count)                # next rows, as places of the queue: 0 ... size - 1
        for the record: queue.rest()                     # what is left of the pass, in order, without reading on
        when the length of the run has changed: queue.extend(places)

    ``order`` is what :func:`dataflex.trainers.planners.ordering.order_of` makes of a component. It is called with
    (pass, places of the pattern, places of it served before, places of the queue that are left by rank, their scores);
    what it draws is keyed by the pass, so that boundaries and resumes change nothing.

    Ranks are taken over all rows of the pass, those served included: a row without a score then keeps its place between
    the others.

    A pass is thinned where fewer places are left of the run than there are rows, which is known only if ``places`` is
    given: then the ranks are thinned, and the pattern is made over the places there are. Which rows a pass has is
    settled when it begins; re-scoring moves them among the places that are left.

    Args:
        size: Rows of the queue.
        order: Puts rows of a pass in order.
        direction: Which scores have the first ranks, for thinning.
        places: Rows that the run takes from the queue in all; ``None`` if that is not known.

    Attributes:
        number: The pass, from 0.
        taken: Rows taken so far, over all passes.
        scores: The present scores, shape ``[size]``.
    """

    def __init__(self, size: int, order: Order, *, direction: str = "ascending", places: int | None = None) -> None:
        if size < 1:
            raise ValueError("a queue without rows has no order")
        self.size, self.places = size, places
        self._order, self._direction = order, direction
        self.number = self.taken = 0
        self.scores: Floats = np.full(size, np.nan)
        self._open = np.ones(size, bool)  # rows of the pass that were not served
        self._planned = np.zeros(size, bool)  # rows that the pattern gives a place
        self._length = self._served = 0  # places of the pattern, and those of it that were served
        self._begun = False
        self._asked = self._open.copy()  # rows that were open when they were last ranked
        self._asked_served = 0  # places served by then
        self._rest: Whole | None = None  # what is left of the pattern, in order

    def to_score(self, count: int) -> Whole:
        """Places whose scores the next ``count`` rows depend on, rising."""
        if not self._begun or self._length - self._served < count:
            return np.arange(self.size)
        return np.flatnonzero(self._planned & self._open)

    def score(self, scores: Floats) -> None:
        """Take present scores, shape ``[size]``: what is left of the pass is ranked by them."""
        if scores.shape != (self.size,):
            raise ValueError(f"scores of shape {list(scores.shape)} for a queue of {self.size} rows")
        self.scores = np.asarray(scores, np.float64)
        self._ask()

    def take(self, count: int) -> Whole:
        """The next rows, as places of the queue; shape ``[count]``. Where a pass ends, the next begins."""
        parts = [np.zeros(0, np.int64)]
        while count > 0:
            rest = self.rest()
            some = rest[:count]
            self._open[some] = False
            self._rest = rest[count:]
            self._served += len(some)
            self.taken += len(some)
            count -= len(some)
            parts.append(some)
        return np.concatenate(parts)

    def rest(self) -> Whole:
        """What is left of the pass, in order; all of the next one where none is left. Nothing is read."""
        if not self._begun or self._served == self._length:
            self._next_pass()
        if self._rest is None:
            rows = np.flatnonzero(self._planned)
            rows = rows[ranked(self.scores[rows], self._direction)]
            rows = rows[self._asked[rows]]
            order = self._order(self.number, self._length, self._asked_served, rows, self.scores[rows])
            self._rest = order[self._served - self._asked_served :]
        return self._rest

    def ahead(self, limit: int) -> Iterator[Whole]:
        """The next ``limit`` rows in parts, as places of the queue, without reading on."""
        reader: OrderedRows | None = None
        while limit > 0:
            rest = self.rest() if reader is None else reader.rest()
            yield rest[:limit]
            limit -= len(rest)
            if limit > 0:
                reader = reader or self._copy()
                reader.take(len(rest))

    def extend(self, places: int | None) -> None:
        """Go on as part of a run of another length.

        What is left of the pass is thinned and ranked anew over the places that are left, the rows that were left out
        among them. So it is not the order that the longer run would have had from the start.
        """
        if places == self.places:
            return
        self.places = places
        done = self.size - int(self._open.sum())
        if not self._begun or done == self.size:
            return
        left = self.size - done if places is None else min(self.size - done, places - self.taken)
        if left > 0 and left != self._length - self._served:
            self._plan(left)

    def state_dict(self) -> dict[str, Any]:
        """Pass, places and the rows served, as JSON values; the scores are kept beside (:meth:`pack_scores`)."""
        return {
            "pass": self.number,
            "places": self.places,
            "taken": self.taken,
            "length": self._length,
            "served": self._served,
            "begun": self._begun,
            "open": pack(np.packbits(self._open)),
            "planned": pack(np.packbits(self._planned)),
            "asked": pack(np.packbits(self._asked)),
            "asked_served": self._asked_served,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, with the length that the run had; :meth:`extend` gives it another."""
        self.number, self.taken = int(state["pass"]), int(state["taken"])
        self.places = None if state["places"] is None else int(state["places"])
        self._length, self._served, self._begun = int(state["length"]), int(state["served"]), bool(state["begun"])
        self._open, self._planned, self._asked = (
            np.unpackbits(unpack(state[name], np.uint8), count=self.size).astype(bool)
            for name in ("open", "planned", "asked")
        )
        self._asked_served, self._rest = int(state["asked_served"]), None

    def pack_scores(self) -> str:
        """The scores as text, for a checkpoint."""
        return pack(self.scores)

    def unpack_scores(self, text: str) -> None:
        """Take them back, beside a state that was ranked by them."""
        self.scores, self._rest = unpack(text, np.float64), None

    def _copy(self) -> OrderedRows:
        other = OrderedRows(self.size, self._order, direction=self._direction, places=self.places)
        other.load_state_dict(self.state_dict())
        other.scores = self.scores
        return other

    def _next_pass(self) -> None:
        if self._begun:
            self.number += 1
        self._begun = True
        self._open[:] = True
        left = self.size if self.places is None else self.places - self.taken
        self._plan(min(self.size, left) if left > 0 else self.size)

    def _plan(self, length: int) -> None:
        """Give ``length`` of the rows that were not served the places of a pattern: all, or evenly spread ones."""
        rows = np.flatnonzero(self._open)
        if length < len(rows):
            rows = rows[ranked(self.scores[rows], self._direction)][thinned(len(rows), length)]
        self._planned = np.zeros(self.size, bool)
        self._planned[rows] = True
        self._length, self._served = length, 0
        self._ask()

    def _ask(self) -> None:
        """Have what is left ranked anew."""
        self._asked, self._asked_served, self._rest = self._open.copy(), self._served, None


def pack(values: np.ndarray[Any, Any]) -> str:
    """An array as text, for a checkpoint's JSON."""
    return base64.b85encode(zlib.compress(values.tobytes(), 1)).decode()


def unpack(text: str, dtype: Any) -> np.ndarray[Any, Any]:
    """What :func:`pack` made, shape ``[n]``."""
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype).copy()
