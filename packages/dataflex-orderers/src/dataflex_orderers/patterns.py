"""Patterns of Dai et al. (ACL 2026, arXiv 2605.30334) and DELT (arXiv 2506.21545) as permutations of ranks.

Each gives sigma, int64 of shape [n]: place p of a pass gets the row of rank sigma[p]. Rank 0 is one end of the scores,
n - 1 the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.int64]

_DIGITS = 9  # of a number of rows that count, before it is rounded to a whole one


def sorting(n: int) -> Ranks:
    """From the first rank to the last."""
    return np.arange(n, dtype=np.int64)


def shuffle(n: int, rng: np.random.Generator) -> Ranks:
    """Any order."""
    return rng.permutation(n).astype(np.int64)


def folding(n: int, layers: int) -> Ranks:
    """Ranks that leave 0 when divided by ``layers``, then those that leave 1, and so on: cycles of all scores."""
    return np.concatenate([np.zeros(0, np.int64), *_cycles(n, layers)])


def zigzag(n: int, layers: int) -> Ranks:
    """As :func:`folding` with every second cycle reversed: no two neighbours are more than ``layers`` ranks apart."""
    turned = [cycle[::-1] if number % 2 else cycle for number, cycle in enumerate(_cycles(n, layers))]
    return np.concatenate([np.zeros(0, np.int64), *turned])


def _cycles(n: int, layers: int) -> Iterator[Ranks]:
    return (np.arange(first, n, layers, dtype=np.int64) for first in range(min(layers, n)))


def segment(n: int, front: float, back: float, front_from: str, back_from: str, rng: np.random.Generator) -> Ranks:
    """An end of the ranks first, an end last, the rest between; each part shuffled.

    Where both come from the same end, its rows are shuffled and cut in two.

    Args:
        n: Places.
        front: Part of them at the beginning; rounded down.
        back: Part of them at the end; rounded down.
        front_from: ``low`` for the first ranks, ``high`` for the last.
        back_from: Likewise.
        rng: To shuffle with.
    """
    first, last = share(n, front), share(n, back)
    if front_from == back_from:
        low = first + last if front_from == "low" else 0
        high = n - (first + last - low)
        end = np.concatenate([np.arange(low), np.arange(high, n)])
        ends = rng.permutation(end)
        begin, close = ends[:first], ends[first:]
    else:
        low, high = (first, n - last) if front_from == "low" else (last, n - first)
        begin, close = np.arange(low), np.arange(high, n)
        begin, close = (begin, close) if front_from == "low" else (close, begin)
        begin, close = rng.permutation(begin), rng.permutation(close)
    middle = rng.permutation(np.arange(low, high))
    return np.concatenate([begin, middle, close]).astype(np.int64)


def share(n: int, part: float) -> int:
    """A part of n, rounded down: 0.29 of 100 is 29, whatever 0.29 is in binary."""
    return math.floor(round(n * part, _DIGITS))


def stair(n: int, sections: int, radius: float, layers: int) -> Ranks:
    """Sorted, with what lies around each cut between ``sections`` folded."""
    return around_cuts(n, sections, radius, partial(folding, layers=layers))


def saw(n: int, sections: int, radius: float, layers: int) -> Ranks:
    """Sorted, with what lies around each cut between ``sections`` zigzagged."""
    return around_cuts(n, sections, radius, partial(zigzag, layers=layers))


def around_cuts(n: int, sections: int, radius: float, inner: Callable[[int], Ranks]) -> Ranks:
    """Sorted ranks but for windows around the cuts, in which a pattern of their own holds.

    Cuts lie at ``round(n k / sections)``, windows reach ``round(n radius)`` ranks to either side (halves to the even
    number). Where rounding makes two share ranks, the later begins where the earlier ends.

    Args:
        n: Places.
        sections: Sections; a cut between each two.
        radius: Part of n on either side of a cut.
        inner: The pattern within a window, from its length.
    """
    ranks, reach, free = sorting(n), round(round(n * radius, _DIGITS)), 0
    for k in range(1, sections):
        cut = round(Fraction(n * k, sections))
        begin, end = max(free, cut - reach, 0), min(n, cut + reach)
        if begin < end:
            ranks[begin:end] = begin + inner(end - begin)
            free = end
    return ranks
