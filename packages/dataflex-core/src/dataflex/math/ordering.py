"""Orderings of rows as permutations of ranks: place p of a pass gets the row of rank sigma[p].

n places, N rows, R places of a pass that is shorter than the rows there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.errors import ComponentError

Whole = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TENTHS = 10
DIRECTIONS = ("ascending", "descending")


def ranked(scores: npt.ArrayLike, direction: str = "ascending") -> Whole:
    """Places by rank: sorted by (score, place) or, descending, by (-score, place).

    A place without a score, or with one that is not finite, is neither high nor low: those stand in the middle, after
    half of the others (rounded down), in their order. Reversing an ascending order would reverse ties as well.

    Args:
        scores: Shape ``[n]``; NaN for none.
        direction: ``ascending`` or ``descending``.

    Returns:
        The place of each rank; shape ``[n]``.

    Raises:
        ValueError: for another direction.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction {direction!r} is not one of {', '.join(DIRECTIONS)}")
    values = np.asarray(scores, np.float64)
    known = np.isfinite(values)
    if known.all():
        return _sorted(values, direction)
    places = np.flatnonzero(known)
    order, half = places[_sorted(values[places], direction)], len(places) // 2
    return np.concatenate([order[:half], np.flatnonzero(~known), order[half:]]).astype(np.int64)


def _sorted(values: Floats, direction: str) -> Whole:
    keys = -values if direction == "descending" else values
    return np.argsort(keys, kind="stable").astype(np.int64)


def thinned(rows: int, places: int) -> Whole:
    """Which ranks a pass of fewer places than rows keeps: evenly spread, both ends alike.

    It is the ranks that are thinned, and the pattern is made over the places there are: ``ranks[sigma_R]``. A pattern
    over all rows of which places were left out would have another shape.

    Args:
        rows: N, ranks there are.
        places: R, ranks to keep; at most N.

    Returns:
        ``floor((2p + 1) N / 2R)`` for each p; shape ``[R]``, rising.
    """
    if not 0 <= places <= rows:
        raise ValueError(f"{places} places cannot be filled from {rows} rows without repeating one")
    if not places:
        return np.zeros(0, np.int64)
    return (2 * np.arange(places, dtype=np.int64) + 1) * rows // (2 * places)


def relative_ranks(ranks: npt.ArrayLike) -> Whole:
    """The rank of each of some distinct ranks among them: ``[7, 10, 2]`` gives ``[1, 2, 0]``."""
    given = np.asarray(ranks, np.int64)
    result = np.empty(len(given), np.int64)
    result[np.argsort(given, kind="stable")] = np.arange(len(given))
    return result


def window_shuffle(length: int, window: int, rng: np.random.Generator) -> Whole:
    """Places shuffled within blocks of ``window``, the last of which may be shorter; 1 or less moves nothing."""
    order = np.arange(length, dtype=np.int64)
    if window <= 1:
        return order
    whole = length // window * window
    order[:whole] = rng.permuted(order[:whole].reshape(-1, window), axis=1).reshape(-1)
    order[whole:] = rng.permutation(order[whole:])
    return order


def by_ranks(rows: npt.ArrayLike, sigma: npt.ArrayLike) -> Whole:
    """Rows in the order that ranks say: what a pattern does with what is left of a pass.

    At the beginning of a pass ``sigma`` is the whole pattern. After m rows it is ``sigma[m:]``, whose relative ranks
    are given to the rows that are left by their present scores: with unchanged scores that is the rest of the first
    order, whatever boundaries lie between.

    Args:
        rows: Rows by rank; shape ``[n]``.
        sigma: Distinct ranks, one for each place; shape ``[n]``.

    Returns:
        The rows, shape ``[n]``.
    """
    ordered: Whole = np.asarray(rows, np.int64)[relative_ranks(sigma)]
    return ordered


def permutation_of(answer: Any, rows: Whole, what: str) -> Whole:
    """Check that an answer holds the same rows in some order.

    Args:
        answer: Any sequence or array of whole numbers.
        rows: The rows; shape ``[n]``. One that stands there twice has to come back twice.
        what: Whose answer it is, for the message: ``"its order()"``.

    Raises:
        ComponentError: naming a row that is missing, foreign or repeated.
    """
    try:
        values = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
    except (TypeError, ValueError) as error:
        raise ComponentError(f"{what} returned {type(answer).__name__}, not rows ({error})") from error
    if values.shape != rows.shape:
        raise ComponentError(
            f"{what} returned shape {list(values.shape)} for {len(rows)} rows; return each of them once"
        )
    if not len(rows):
        return rows
    if not np.issubdtype(values.dtype, np.integer):
        raise ComponentError(f"{what} returned {values.dtype} values; rows are whole numbers")
    order = values.astype(np.int64)
    if np.array_equal(np.sort(order), np.sort(rows)):
        return order
    foreign = np.setdiff1d(order, rows)
    missing = np.setdiff1d(rows, order)
    if len(foreign):
        left_out = f" and left out {missing[0]}" if len(missing) else ""
        raise ComponentError(f"{what} returned {foreign[0]}, which it was not given{left_out}")
    given = dict(zip(*np.unique(rows, return_counts=True), strict=True))
    found = zip(*np.unique(order, return_counts=True), strict=True)
    row, times = next((row, count) for row, count in found if count > given[row])
    raise ComponentError(f"{what} returned {row} {'twice' if times == 2 else 'several times'}; return each row once")


def score_by_tenth(scores: npt.ArrayLike) -> list[float | None]:
    """Mean score of each tenth of an order, which shows its shape; ``None`` where nothing was scored.

    Args:
        scores: In the order of the places; shape ``[n]``, NaN for none.
    """
    means: list[float | None] = []
    for part in np.array_split(np.asarray(scores, np.float64), TENTHS):
        known = part[np.isfinite(part)]
        means.append(float(known.mean()) if len(known) else None)
    return means


def rank_correlation(scores: npt.ArrayLike) -> float | None:
    """Spearman's correlation of place and score, ties sharing their mean rank: 1 for a rising order, -1 for a falling.

    Args:
        scores: In the order of the places; shape ``[n]``, NaN for none: those do not count.

    Returns:
        ``None`` for fewer than two scores, or equal ones.
    """
    values = np.asarray(scores, np.float64)
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() == known.max():
        return None
    _, inverse, counts = np.unique(known, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts + 1) / 2)[inverse]  # mean of the ranks of equal scores, from 0
    places = np.arange(len(known), dtype=np.float64)
    ranks, places = ranks - ranks.mean(), places - places.mean()
    return float(ranks @ places / np.sqrt((ranks @ ranks) * (places @ places)))


Order = Callable[[int, int, int, Whole, Floats], Whole]
"""From (pass, places of the pattern, places of it served before, rows left by rank, their scores) to those in order."""
