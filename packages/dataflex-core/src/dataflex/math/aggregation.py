"""From scores for several targets to one ranking: the highest, the mean, or each target's best in turn.

Shapes: N rows, S targets (eval sets, subtasks or single queries).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from dataflex.math.topk import top_k

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Rule = Literal["max", "mean", "round_robin"]


def aggregate(scores_NS: Scores, rule: Rule) -> Scores:
    """One score per row: the mean over targets with ``mean``, else the highest.

    ``round_robin`` ranks by the table itself (:func:`round_robin`); the highest is what it records of a row.

    Args:
        scores_NS: Scores, NaN for none.
        rule: How targets count.

    Returns:
        Shape [N]; NaN where any target's score is not finite.
    """
    finite = np.asarray(np.isfinite(scores_NS).all(axis=1))
    scores_N = scores_NS.mean(axis=1) if rule == "mean" else scores_NS.max(axis=1)
    return np.where(finite, scores_N, np.nan)


def round_robin(scores_NS: Scores, num_samples: int, *, first: int = 0, taken: Collection[int] = ()) -> Rows:
    """Each target's best row that none has taken yet, in turn; among equal scores the lower row.

    Args:
        scores_NS: Scores; a row with one that is not finite has none at all and comes after all others.
        num_samples: How many rows to take.
        first: The target whose turn it is.
        taken: Rows that cannot be taken.

    Returns:
        Rows in the order they were taken, each once; fewer than ``num_samples`` if there are no more.
    """
    finite = np.asarray(np.isfinite(scores_NS).all(axis=1))
    known_NS = np.where(finite[:, None], scores_NS, np.nan)
    orders = [top_k(known_N, len(known_N)).tolist() for known_N in known_NS.T]
    return take_in_turn(orders, num_samples, first=first, taken=taken)


def take_in_turn(
    orders: Sequence[Iterable[int]], num_samples: int, *, first: int = 0, taken: Collection[int] = ()
) -> Rows:
    """The round robin over rankings: in turn, each takes its next row that none has taken.

    Args:
        orders: Rows by target, best first.
        num_samples: How many rows to take.
        first: The target whose turn it is.
        taken: Rows that cannot be taken.

    Returns:
        Rows in the order they were taken; fewer than ``num_samples`` once no ranking has a row left. A ranking that
        ends passes its turns on.
    """
    left = [iter(order) for order in [*orders[first:], *orders[:first]]]
    gone, found = set(taken), list[int]()
    while left and len(found) < num_samples:
        for order in list(left):
            if len(found) == num_samples:
                break
            row = next((row for row in order if row not in gone), None)
            if row is None:
                left.remove(order)
            else:
                gone.add(row)
                found.append(row)
    return np.asarray(found, dtype=np.int64)
