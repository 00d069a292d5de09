"""How many tokens of each row are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from dataflex.math.losses import IGNORE_INDEX

Whole = npt.NDArray[np.int64]

_SCAN = 10_000  # rows of an Arrow table looked at in one piece


def trained_tokens(dataset: Any) -> Whole:
    """Count the targets of each row: its labels but the first, which nothing predicts, and those that are ignored.

    Rows without labels (pretraining: the collator makes them of the tokens) count all tokens but the first. Rows with
    neither ``labels`` nor ``input_ids``, as in preference data, count the tokens of all columns that end in
    ``input_ids``. A Hugging Face dataset is read as Arrow, so that no row is decoded. Another pool is asked for each of
    its rows, which takes ten microseconds or more each.

    Args:
        dataset: Map-style pool.

    Returns:
        Counts, shape ``[rows]``.
    """
    size = len(dataset)
    counts = np.zeros(size, np.int64)
    if not size:
        return counts
    arrow = hasattr(dataset, "with_format") and getattr(dataset, "format", {}).get("type") != "custom"
    first = dataset[0]
    names = _columns(list(first) if hasattr(first, "keys") else [])
    if arrow:
        tables = dataset.with_format("arrow", columns=names)
        for start in range(0, size, _SCAN):
            table = tables[start : min(start + _SCAN, size)]
            counts[start : start + len(table)] = sum(_count_lists(table[name], name) for name in names)
        return counts
    # Such a pool may make its rows on the spot. delay: nothing is shown in the first two seconds; None: nor in a file.
    for row in tqdm(range(size), desc="counting tokens", unit=" rows", delay=2, leave=False, disable=None):
        features = dataset[row]
        counts[row] = sum(_count(np.asarray(features[name]), name) for name in names)
    return counts


def _columns(names: list[str]) -> list[str]:
    for wanted in ("labels", "input_ids"):
        if wanted in names:
            return [wanted]
    return [name for name in names if name.endswith("input_ids")]


def _count(values: npt.NDArray[Any], name: str) -> int:
    return int((values[1:] != IGNORE_INDEX).sum()) if name == "labels" else max(len(values) - 1, 0)


def _count_lists(column: Any, name: str) -> Whole:
    """:func:`_count` of each list of a chunked Arrow column."""
    parts = []
    for chunk in column.chunks:
        lengths = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if name == "labels":
            targets = chunk.flatten().to_numpy(zero_copy_only=False) != IGNORE_INDEX
            ends = np.cumsum(lengths)
            starts = ends - lengths
            targets[starts[lengths > 0]] = False
            running = np.concatenate([[0], np.cumsum(targets)])
            parts.append(running[ends] - running[starts])
        else:
            parts.append(np.maximum(lengths - 1, 0))
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
