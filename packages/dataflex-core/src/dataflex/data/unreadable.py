"""Which row it was, when a batch cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from dataflex.errors import ComponentError, DataFlexError, reason

_LISTED = 32  # rows a message names one by one


def name_unreadable(dataset: Any, rows: Sequence[int]) -> str:
    """Name the row of a batch that cannot be read, by reading them one after another.

    Args:
        dataset: Map-style pool.
        rows: Rows of the batch.

    Returns:
        The first one that fails, or all of them if each can be read now.
    """
    for row in rows:
        try:
            dataset[row]
        except Exception:  # whatever the pool raises
            return f"row {row} of the pool"
    return f"a row of the batch {list(rows)}" if len(rows) <= _LISTED else f"one of {len(rows):,} rows of the pool"


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
        raise ComponentError(f"{name_unreadable(dataset, rows)} could not be read: {reason(error)}") from error
