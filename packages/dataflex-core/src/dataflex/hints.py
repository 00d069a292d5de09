"""Did-you-mean, in one place."""

from __future__ import annotations

from collections.abc import Iterable

_LETTERS_A_SLIP = 5
"""One slip is allowed for this many letters: a name that differs more was not meant."""

_SHORTEST = 3


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = " ") -> str:
    """A sentence with the known name that a slip of the fingers makes of ``name``, or ``""`` when there is none."""
    near = nearest(name, known)
    return "" if near is None else f"{prefix}Did you mean {near!r}?"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name with the fewest slips from ``name``, if they are few for its length: one in five letters.

    Slips are letters left out, added, replaced, or swapped with a neighbour. Upper case and hyphens are none.
    """
    found: list[tuple[int, str]] = []
    for each in known:
        longest = max(len(name), len(each))
        allowed = 0 if longest < _SHORTEST else max(1, round(longest / _LETTERS_A_SLIP))
        if abs(len(name) - len(each)) > allowed:
            continue
        slips = _slips(_plain(name), _plain(each))
        if slips <= allowed:
            found.append((slips, each))
    fewest = min(found, default=(0, ""))[0]
    return max((each for slips, each in found if slips == fewest), default=None)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _slips(one: str, other: str) -> int:
    """Optimal string alignment distance."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, each in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != each))
            if i > 1 and j > 1 and letter == other[j - 2] and each == one[i - 2]:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
