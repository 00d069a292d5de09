"""Which row it was, when a batch cannot be read or collated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dataflex.errors import ComponentError, DataFlexError, reason

_LISTED = 32  # rows a message names one by one


@dataclass(frozen=True)
class Unreadable:
    """A row that fails alone.

    Attributes:
        row: Its number in the pool.
        what: What cannot be done with it: ``read`` or ``collated``.
    """

    row: int
    what: str


def find_unreadable(
    dataset: Any, rows: Sequence[int], collate: Callable[[list[Any]], object] | None = None
) -> Unreadable | None:
    """Look for the row of a batch that cannot be read or, alone in a batch, not be collated.

    Args:
        dataset: Map-style pool.
        rows: Rows of the batch.
        collate: A list of features to a batch; ``None`` if only reading failed. May draw from global generators.

    Returns:
        The first one that fails; ``None`` if none does, so that nobody is named who did not do it.
    """
    for row in rows:
        try:
            features = dataset[row]
        except Exception:  # whatever the pool raises
            return Unreadable(row, "read")
        try:
            if collate is not None:
                collate([features])
        except Exception:  # whatever the collator raises
            return Unreadable(row, "collated")
    return None


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
