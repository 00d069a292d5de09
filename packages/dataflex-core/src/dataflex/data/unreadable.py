"""Which row it was, when rows cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from dataflex.errors import ComponentError, DataFlexError, reason
from dataflex.failures.rows import find_unreadable

_LISTED = 32  # rows a message names one by one


@contextlib.contextmanager
def naming_unreadable(dataset: Any, rows: Sequence[int]) -> Iterator[None]:
    """Name the row that the body, which does nothing but read rows, could not read.

    Args:
        dataset: Map-style pool.
        rows: The rows.

    Raises:
        ComponentError: naming it, for any error of the body but our own and a lack of memory.
    """
    try:
        yield
    except (DataFlexError, MemoryError):
        raise
    except Exception as error:
        found = find_unreadable(dataset, rows)
        who = f"row {found.row} of the pool" if found is not None else _batch(rows)
        raise ComponentError(f"{who} could not be read: {reason(error)}") from error


def _batch(rows: Sequence[int]) -> str:
    """A batch of which each row can be read."""
    which = f" {list(rows)}" if len(rows) <= _LISTED else ""
    return f"a batch of {len(rows):,} rows of the pool{which}, each of which can be read alone,"
