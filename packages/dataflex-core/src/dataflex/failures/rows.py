"""The row at fault, looked for in the batch at which a loader failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_FETCHER = "torch.utils.data._utils.fetch"


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


def row_at_fault(error: BaseException) -> Unreadable | None:
    """The row at which one of torch's loaders failed in this process, from the batch in its frame of the traceback.

    Returns:
        ``None`` if no loader was reading, a worker was, or each row of the batch goes well alone.
    """
    link = error.__traceback__
    while link is not None:
        frame, link = link.tb_frame, link.tb_next
        if frame.f_globals.get("__name__") == _FETCHER and frame.f_code.co_name == "fetch":
            fetcher, rows = frame.f_locals.get("self"), frame.f_locals.get("possibly_batched_index")
            dataset, collate = getattr(fetcher, "dataset", None), getattr(fetcher, "collate_fn", None)
            if isinstance(rows, list) and dataset is not None:
                return find_unreadable(dataset, rows, collate)
    return None
