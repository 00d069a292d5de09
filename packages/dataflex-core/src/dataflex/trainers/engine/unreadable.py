"""Why the loader could not make a batch: the row that fails alone, memory, or a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from dataflex.data.origins import Origins
from dataflex.failures.place import MORE_MEMORY, START_WORKERS, starts_workers
from dataflex.failures.rows import find_unreadable
from dataflex.failures.saying import is_out_of_memory
from dataflex.mixing.domains import Domains
from dataflex.rng import rng_scope

_LOST_WORKER = "DataLoader worker"  # in torch's message of one that was killed or ended


def what_failed(
    loader: DataLoader[Any], ahead: Sequence[int], error: Exception, sources: Domains | Origins | None
) -> tuple[str, str]:
    """What failed, naming a row only if it fails alone, and what to do.

    Args:
        loader: What was to make the batch.
        ahead: Rows of the pool that it was reading.
        error: What it raised.
        sources: Where the rows of the pool come from, if that is known.
    """
    if starts_workers(error):
        return "the loader's worker processes could not be started", f" {START_WORKERS}."
    if is_out_of_memory(error):
        return "there was no memory for a batch", f" {MORE_MEMORY}."
    with rng_scope():
        found = find_unreadable(loader.dataset, ahead, loader.collate_fn)
    if found is not None:
        return f"row {found.row} of the pool{_source(found.row, sources)} could not be {found.what}", ""
    if _LOST_WORKER in str(error):
        return "a worker process of the loader was lost", " Lower dataloader_num_workers, or give it more memory."
    return "a batch could not be made, though each of its rows can be", ""


def _source(row: int, sources: Domains | Origins | None) -> str:
    """Which data set a row is of, where that is known."""
    return "" if sources is None else f" (data set {sources.names[int(sources.of(np.array([row]))[0])]})"
