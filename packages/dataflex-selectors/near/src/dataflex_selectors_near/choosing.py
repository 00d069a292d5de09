"""Rows near some queries: by turns, or by the highest or the mean likeness.

Shapes: n rows to choose among, V queries, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dataflex.math.neighbours import mean_products, neighbours
from dataflex.math.topk import top_k

Scores = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Free = npt.NDArray[np.bool_]
Matrix = npt.NDArray[Any]
Rule = Literal["round_robin", "max", "mean"]

_FEWEST = 32
_GROWS = 4


@dataclass(frozen=True)
class Turns:
    """Whose turn it is: the first row of each target, then the second of each, and so on.

    A target that has no more rows begins again: with a of 2 rows and b of 3, a0 b0 a1 b1 a0 b2.

    Attributes:
        sizes: Rows of each target, at least 1; the queries are these rows, one target after another.
    """

    sizes: Sequence[int]

    def query(self, turn: int) -> int:
        """The query whose turn it is, counted from 0."""
        place, target = divmod(turn, len(self.sizes))
        return sum(self.sizes[:target]) + place % self.sizes[target]


@dataclass(frozen=True)
class Choice:
    """Rows chosen.

    Attributes:
        places: Their places among the rows, in the order chosen, each once.
        scores: Each row's likeness: the mean over queries with ``mean``, else the highest; NaN for none. Shape [n].
        turn: The turn that comes next.
        again: The places chosen since all rows were free again; all of them where that did not happen.
        began_again: Whether it happened.
        fetched: Neighbours of each query that were looked at.
    """

    places: Places
    scores: Scores
    turn: int
    again: Places
    began_again: bool
    fetched: int


def choose(
    queries: Matrix,
    turns: Turns,
    rows: Matrix,
    rule: Rule,
    count: int,
    free: Free,
    *,
    turn: int = 0,
    device: Any = None,
) -> Choice:
    """Choose among rows, those that are free first; when none of these is left, all are free again.

    Args:
        queries: Unit rows, finite, shape [V, d].
        turns: Their order.
        rows: Unit rows, shape [n, d]; one that is not finite has no score and is not chosen.
        rule: How likenesses to several queries become one choice.
        count: How many to choose, at most the finite rows.
        free: Which rows were not chosen before, shape [n].
        turn: The turn that comes first, with ``round_robin``.
        device: Where to multiply.
    """
    known = np.isfinite(rows).all(axis=1)
    means = mean_products(queries, rows, normalise=True, device=device) if rule == "mean" else None
    best, fetched, chosen = np.full(len(rows), np.nan), 0, np.zeros(0, np.int64)
    began_again, again = False, 0
    while True:
        allowed = known & free
        allowed[chosen] = False
        missing = count - len(chosen)
        if rule == "round_robin":
            taken, best, fetched = _by_turns(
                queries, turns, rows, min(missing, int(allowed.sum())), allowed, turn, device
            )
            turn += len(taken)
        else:
            if means is None and np.isnan(best).all():
                best = neighbours(queries, rows, 1, normalise=True, device=device).best
            scores = np.where(allowed, best if means is None else means, np.nan)
            taken = top_k(scores, min(missing, int(allowed.sum())))
        chosen = np.concatenate([chosen, taken])
        if len(chosen) == count or began_again:
            break
        began_again, again, free = True, len(chosen), np.ones_like(free)
    return Choice(chosen, best if means is None else means, turn, chosen[again:], began_again, fetched)


def _by_turns(
    queries: Matrix, turns: Turns, rows: Matrix, count: int, free: Free, turn: int, device: Any
) -> tuple[Places, Scores, int]:
    """Take ``count`` free rows by turns; also each row's highest likeness, and how many neighbours were looked at.

    Only so many neighbours of each query are looked up as it may take; where one runs out, more of all are.
    """
    fetched, total = max(_FEWEST, 2 * -(-count // len(queries))), int(free.sum())
    while True:
        found = neighbours(queries, rows, fetched, among=free, normalise=True, device=device)
        taken = take_by_turns(found.rows, turns, count, turn)
        if taken is not None:
            return taken, found.best, min(fetched, total)
        fetched *= _GROWS


def take_by_turns(rankings: Places, turns: Turns, count: int, turn: int = 0) -> Places | None:
    """Each query in turn takes the best row of its ranking that none has taken.

    Args:
        rankings: Rows by query, best first, shape [V, K].
        turns: The order of the queries.
        count: How many rows to take.
        turn: The turn that comes first.

    Returns:
        The rows in the order they were taken; ``None`` when a query's ranking ends too early.
    """
    looked_at = np.zeros(len(rankings), np.int64)
    taken: dict[int, None] = {}
    for now in range(turn, turn + count):
        query = turns.query(now)
        place = int(looked_at[query])
        while place < rankings.shape[1] and int(rankings[query, place]) in taken:
            place += 1
        if place == rankings.shape[1]:
            return None
        looked_at[query] = place + 1
        taken[int(rankings[query, place])] = None
    return np.fromiter(taken, np.int64, len(taken))
