"""Finding the row at which a library fails, by asking it for less and less."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

SEARCH_SECONDS = 60.0
"""How long a search goes on: tokenising in one process may take hours where a run has many workers."""

_BATCH = 256


class TimeIsUp(Exception):
    """The search has taken too long."""


def first_failing(rows: int, attempt: Callable[[int, int], object], seconds: float = SEARCH_SECONDS) -> int | None:
    """The first row that fails alone.

    Args:
        rows: How many there are.
        attempt: Does what failed with the rows from the first number up to, not including, the second.
        seconds: How long to look.

    Returns:
        Its number, or ``None`` if each row alone goes well.

    Raises:
        TimeIsUp: when it was not found in time.
    """
    end = time.monotonic() + seconds
    for first in range(0, rows, _BATCH):
        last = min(first + _BATCH, rows)
        if not _fails(attempt, first, last):
            continue
        for row in range(first, last):
            if _fails(attempt, row, row + 1):
                return row
            _check(end)
        _check(end)
    return None


def rows_left(aligned: Any, processor: Any, *, seconds: float) -> int:
    """Rows of a data set that tokenising leaves, where a sample is a row.

    Args:
        aligned: Its rows in LlamaFactory's fields.
        processor: LlamaFactory's.
        seconds: How long to count.

    Raises:
        TimeIsUp: when that takes longer.
    """
    end, left = time.monotonic() + seconds, 0
    for samples in _samples(aligned, processor, _BATCH):
        left += samples
        _check(end)
    return left


def is_emptied(aligned: Any, processor: Any, batch: int, seconds: float = SEARCH_SECONDS) -> bool:
    """Whether tokenising leaves nothing of a data set.

    Args:
        aligned: Its rows in LlamaFactory's fields.
        processor: LlamaFactory's.
        batch: ``preprocessing_batch_size``: what is packed into blocks is packed within one batch.
        seconds: How long to look.

    Raises:
        TimeIsUp: when that takes longer.
    """
    end = time.monotonic() + seconds
    for samples in _samples(aligned, processor, batch):
        if samples:
            return False
        _check(end)
    return True


def _samples(aligned: Any, processor: Any, batch: int) -> Iterator[int]:
    """How many samples each batch gives."""
    for first in range(0, len(aligned), batch):
        columns = processor.preprocess_dataset(aligned[first : first + batch])
        yield max((len(values) for values in columns.values()), default=0)


def _fails(attempt: Callable[[int, int], object], first: int, end: int) -> bool:
    try:
        attempt(first, end)
    except Exception:  # whatever the library raises: it has failed before
        return True
    return False


def _check(end: float) -> None:
    if time.monotonic() > end:
        raise TimeIsUp
