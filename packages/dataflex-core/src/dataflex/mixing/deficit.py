"""Which domain comes next: the one that has fallen furthest behind its proportion.

Each draw adds a domain's proportion to its deficit; the largest deficit (ties: the first) is served and pays what the
sample costs. Deficits are whole numbers, in millionths of a sample or token, and always sum to 0.

With fixed proportions every domain stays within about one sample of its target. Whatever the proportions do from draw
to draw, no domain falls behind by more than the harmonic number H_K.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dataflex.mixing.proportions import PARTS

Whole = npt.NDArray[np.int64]
Domains = npt.NDArray[np.integer[Any]]


def by_samples(deficits: Whole, parts: Whole, draws: int, left: Whole | None = None) -> tuple[Domains, int | None]:
    """Domains of the next draws where every sample costs 1.

    From equal deficits, fixed proportions repeat after at most :data:`PARTS` draws: by then every deficit is a whole
    number of samples above -1, and they sum to 0. So a long schedule is computed once and repeated.

    Args:
        deficits: In millionths of a sample, shape ``[domains]``; updated in place.
        parts: Proportions in millionths, shape ``[domains]``, summing to ``PARTS``.
        draws: How many.
        left: Most rows that may be drawn from each domain; ``None`` for no limit.

    Returns:
        Domain of each draw, and the domain that was due with no row left (``None`` when all draws were made).
    """
    period = PARTS // int(np.gcd.reduce(parts))
    domains = np.empty(draws, _index_type(len(parts)))
    left = None if left is None else left.copy()
    done = 0
    while done < draws:
        before = deficits.copy()
        cycle = domains[done : done + period]
        made, wanted = _serve(deficits, parts, cycle, left)
        done += made
        if wanted is not None:
            return domains[:done], wanted
        if done < draws and np.array_equal(deficits, before):
            done += _repeat(cycle, domains[done:], deficits, parts, left)
    return domains, None


def by_tokens(
    deficits: Whole, parts: Whole, draws: int, typical: int, lengths: Sequence[Iterator[int]]
) -> tuple[Domains, int | None]:
    """Domains of the next draws where a sample costs its trained tokens.

    What a sample costs is known only once its domain is chosen. So the choice is made as if it cost ``typical``
    tokens, and the deficits are then moved by what it does cost. Equal lengths give the order of :func:`by_samples`.

    Args:
        deficits: In millionths of a token, shape ``[domains]``; updated in place.
        parts: Proportions in millionths, shape ``[domains]``, summing to ``PARTS``.
        draws: How many.
        typical: Tokens of an ordinary sample, above 0.
        lengths: Per domain, the trained tokens of its next rows; may end.

    Returns:
        Domain of each draw, and the domain whose rows ended before all draws were made (``None`` if none did).
    """
    domains = np.empty(draws, _index_type(len(parts)))
    due: Whole = deficits + typical * parts
    moved, largest = np.empty_like(due), due.argmax
    chosen, pay = _writer(domains), _writer(due)
    done, wanted = 0, None
    while done < draws:
        domain = int(largest())
        cost = next(lengths[domain], -1)
        if cost < 0:
            wanted = domain
            break
        np.multiply(parts, cost, moved)
        np.add(due, moved, due)
        pay[domain] -= cost * PARTS
        chosen[done] = domain
        done += 1
    deficits[:] = due - typical * parts
    return domains[:done], wanted


def hand_over(deficits: Whole, parts: Whole, leaving: int) -> None:
    """Give what is owed to a domain that leaves to the others, in their proportions; in place, the sum stays 0."""
    owed, deficits[leaving] = int(deficits[leaving]), 0
    shares = np.array([owed * int(part) // PARTS for part in parts], np.int64)
    deficits += shares
    deficits[int(np.argmax(parts))] += owed - int(shares.sum())


def _serve(deficits: Whole, parts: Whole, domains: Domains, left: Whole | None) -> tuple[int, int | None]:
    """The plain greedy loop. 32 bits where they suffice: half the memory to move at each draw."""
    narrow = int(np.abs(deficits).max(initial=0)) < 10**9
    due: npt.NDArray[Any] = deficits.astype(np.int32 if narrow else np.int64)
    step, largest, add = parts.astype(due.dtype), due.argmax, np.add
    chosen, pay = _writer(domains), _writer(due)
    rows = None if left is None else _writer(left)
    made, wanted = len(domains), None
    for draw in range(len(domains)):
        add(due, step, due)
        domain = largest()
        if rows is not None:
            if rows[domain] <= 0:
                due -= step
                made, wanted = draw, int(domain)
                break
            rows[domain] -= 1
        pay[domain] -= PARTS
        chosen[draw] = domain
    deficits[:] = due
    return made, wanted


def _repeat(cycle: Domains, rest: Domains, deficits: Whole, parts: Whole, left: Whole | None) -> int:
    """Fill ``rest`` with copies of a cycle that left the deficits as they were; returns how far the rows allow that."""
    period, counts = len(cycle), np.bincount(cycle, minlength=len(parts))
    copies = len(rest) // period
    if left is not None:
        copies = min(copies, int((left // np.maximum(counts, 1))[counts > 0].min()))
        left -= copies * counts
    rest[: copies * period].reshape(copies, period)[:] = cycle
    end = rest[copies * period :]
    if len(end) >= period:
        return copies * period
    counts = np.bincount(cycle[: len(end)], minlength=len(parts))
    if left is not None and (left < counts).any():
        return copies * period
    end[:] = cycle[: len(end)]
    deficits += len(end) * parts - counts * PARTS
    return len(rest)


def _writer(array: npt.NDArray[Any]) -> Any:
    """The array as a memoryview: single elements are read and written twice as fast as through NumPy."""
    return memoryview(cast(Any, array))


def _index_type(domains: int) -> type[np.integer[Any]]:
    """16 bits where they suffice, since NumPy groups those by counting rather than by comparing."""
    return np.int16 if domains <= np.iinfo(np.int16).max else np.int32
