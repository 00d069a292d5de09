"""Did-you-mean, in one place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = " ") -> str:
    """A sentence with the nearest known name, or ``""`` when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"{prefix}Did you mean {near[0]!r}?" if near else ""
