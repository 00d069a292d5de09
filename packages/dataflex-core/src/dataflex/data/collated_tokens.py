"""How many tokens of each row are trained on, as the collator makes them: its labels, not the pool's columns.

A collator may cut rows, mask prompts or padding tokens, or draw its targets. Each row is collated by itself, under a
random state that is a function of the seed and the row: what a row counts does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from dataflex.data.seeded_collator import SeededCollator
from dataflex.data.unreadable import naming_unreadable
from dataflex.errors import ComponentError, reason
from dataflex.math.losses import IGNORE_INDEX
from dataflex.rng import key_seed, rng_scope

Whole = npt.NDArray[np.int64]

SAMPLED_ROWS = 64
"""Rows that are collated at the start of a run, to see whether the columns tell how many tokens are trained on."""

_LONGEST = 32  # of them, at most so many are the longest rows of domains: a collator that cuts shows there first
_AT_ONCE = 32  # rows a worker counts before it answers
_UNKNOWN = -1  # the collator makes no labels of a single row that could be counted


def sampled_rows(counts: Whole, sizes: Sequence[int], seed: int) -> Whole:
    """Rows to look at: the longest one of each domain (of the first 32), and others drawn at random; ascending.

    Args:
        counts: Trained tokens by columns, shape ``[rows]``.
        sizes: Rows of each domain; their sum is the number of rows.
        seed: The run's seed.
    """
    if len(counts) <= SAMPLED_ROWS:
        return np.arange(len(counts), dtype=np.int64)
    starts = np.cumsum([0, *sizes[:-1]])
    parts = zip(starts.tolist(), sizes, strict=True)
    chosen = {start + int(np.argmax(counts[start : start + size])) for start, size in parts if size}
    chosen = set(sorted(chosen)[:_LONGEST])
    drawn = np.random.default_rng(key_seed(seed, "tokens")).permutation(len(counts))
    for row in drawn.tolist():
        if len(chosen) == SAMPLED_ROWS:
            break
        chosen.add(row)
    return np.array(sorted(chosen), np.int64)


def collated_tokens(
    dataset: Any,
    collator: Callable[[Sequence[Any]], Any],
    rows: Whole,
    *,
    seed: int,
    workers: int = 0,
    show: bool = False,
) -> Whole | None:
    """Collate rows one by one and count the labels of each that are trained on: all but the first, none ignored.

    Args:
        dataset: Map-style pool.
        collator: The run's.
        rows: Rows to count.
        seed: The run's seed.
        workers: Processes that collate; only where processes are forked, since collators seldom survive being sent.
        show: Draw a progress bar, if it takes longer than two seconds.

    Returns:
        Counts, shape of ``rows``; ``None`` if the collator makes no labels of its own for a row.

    Raises:
        ComponentError: naming a row that cannot be read or collated.
    """
    forked = torch.multiprocessing.get_start_method() == "fork"
    with rng_scope():  # a loader draws a seed for its workers
        loader: DataLoader[Any] = DataLoader(
            _RowCounts(dataset, SeededCollator(collator, seed)),
            batch_size=_AT_ONCE,
            sampler=rows.tolist(),
            num_workers=workers if forked else 0,
            collate_fn=list,
        )
        found: list[int] = []
        # delay: nothing is shown in the first two seconds; None: nor in a file
        quiet = None if show else True
        with tqdm(total=len(rows), desc="counting tokens", unit=" rows", delay=2, leave=False, disable=quiet) as bar:
            for counts in loader:
                for count in counts:
                    if isinstance(count, str):
                        raise ComponentError(count)
                found += counts
                bar.update(len(counts))
                if _UNKNOWN in counts:
                    return None
    return np.array(found, np.int64)


class _RowCounts(Dataset[Any]):
    """Counts by row; what fails in a worker comes back as a sentence."""

    def __init__(self, dataset: Any, collator: Callable[[Sequence[Any]], Any]) -> None:
        self._dataset, self._collator = dataset, collator

    def __getitem__(self, row: int) -> int | str:
        try:
            with naming_unreadable(self._dataset, [row]):
                features = self._dataset[row]
        except ComponentError as error:
            return str(error)
        copied = features.copy() if isinstance(features, dict) else dict(features)
        try:
            return _count(self._collator([copied]))
        except Exception as error:  # whatever a collator raises
            return f"row {row} of the pool could not be made a batch: {reason(error)}"


def _count(batch: Any) -> int:
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if labels is None:
        return _UNKNOWN
    labels_BT = torch.as_tensor(labels)
    if labels_BT.ndim != 2 or len(labels_BT) != 1 or labels_BT.is_floating_point():
        return _UNKNOWN
    return int((labels_BT[:, 1:] != IGNORE_INDEX).sum())
