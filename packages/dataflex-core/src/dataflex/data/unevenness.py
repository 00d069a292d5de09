"""Which batches hold the most different rows: those a batched computation gets wrong first, if it gets any wrong.

Rows differ in length, so that some are padded, and in how many items they bring along: images, sounds, anything that a
further list column of the data holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Counts = dict[str, Rows]

LOOKED_AT = 4
"""Rows of a batch that are looked at."""

_SCAN = 1000  # rows of an Arrow table looked at in one piece: a further column may hold the bytes of images
_BY_TOKEN = ("input_ids", "attention_mask", "labels", "position_ids", "token_type_ids")
_PEEKED = 64  # rows made when they are asked for are all read only if some of these hold items


def item_counts(dataset: Any, rows: npt.ArrayLike, lengths: Rows) -> Counts:
    """Number of items in each list column of some rows that is no column of tokens.

    A Hugging Face dataset is asked for the offsets of its Arrow lists, so that nothing is decoded; of one that makes
    its rows when they are asked for nothing is known.

    Args:
        dataset: Map-style pool.
        rows: Rows to count.
        lengths: Their tokens: a column that holds as many items as there are tokens holds one for each token.

    Returns:
        By column, counts of the shape of ``rows``; only columns in which rows differ.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    if not len(chosen):
        return {}
    if hasattr(dataset, "with_format") and hasattr(dataset, "column_names") and hasattr(dataset, "format"):
        found = {} if dataset.format["type"] == "custom" else _arrow_counts(dataset, chosen)
    else:
        found = _read_counts(dataset, chosen)
    return {
        name: counts
        for name, counts in found.items()
        if counts.min() != counts.max() and not np.array_equal(counts, lengths)
    }


class Sizes:
    """Sizes of rows, looked up by row.

    Args:
        rows: All rows, in any order.
        sizes: Their sizes.
    """

    def __init__(self, rows: Rows, sizes: Rows) -> None:
        self._order = np.argsort(rows)
        self._rows, self._sizes = rows, sizes

    def of(self, rows: Rows) -> Rows:
        """Sizes of some of them."""
        return self._sizes[self._order[np.searchsorted(self._rows, rows, sorter=self._order)]]


def most_uneven(batches: Sequence[Rows], lengths: Sizes, counts: Sequence[Sizes]) -> list[int]:
    """Indices of the batches to look at: the first of several rows, and those whose rows differ most.

    One for the share of padding in a row, and one for each column of items. A batch of one row is no batch.
    """
    several = [index for index, rows in enumerate(batches) if len(rows) > 1]
    if not several:
        return []

    def padding(index: int) -> float:
        sizes = lengths.of(batches[index])
        return float(1 - sizes.min() / max(int(sizes.max()), 1))

    def spread(index: int, column: Sizes) -> float:
        sizes = column.of(batches[index])
        return float(sizes.max() - sizes.min())

    found = [several[0]]
    measures: list[Callable[[int], float]] = [padding, *(partial(spread, column=column) for column in counts)]
    for differ in measures:
        unevenness = [differ(index) for index in several]
        if max(unevenness) > 0:
            found.append(several[int(np.argmax(unevenness))])
    return list(dict.fromkeys(found))


def looked_at(rows: Rows, lengths: Sizes, counts: Sequence[Sizes]) -> list[int]:
    """Up to :data:`LOOKED_AT` places of a batch, ascending: those with the fewest and most items, the shortest and
    longest rows, then others at equal distances.
    """
    found: list[int] = []
    for column in (*counts, lengths):
        order = np.argsort(column.of(rows), kind="stable").tolist()
        found += [order[0], order[-1]]
    found += np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).round().astype(int).tolist()
    return sorted(list(dict.fromkeys(found))[:LOOKED_AT])


def _arrow_counts(dataset: Any, chosen: Rows) -> Counts:
    names = [name for name in dataset.column_names if name not in _BY_TOKEN]
    whole = len(chosen) == len(dataset)
    found: Counts = {}
    for name in names:
        tables = dataset.with_format("arrow", columns=[name])
        parts = []
        for start in range(0, len(chosen), _SCAN):
            end = min(start + _SCAN, len(chosen))
            chunks = (tables[start:end] if whole else tables[chosen[start:end].tolist()])[name].chunks
            if not all(hasattr(chunk, "value_lengths") for chunk in chunks):
                break
            parts += [chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for chunk in chunks]
        else:
            counts = np.concatenate(parts).astype(np.int64)
            found[name] = counts[chosen] if whole else counts
    return found


def _read_counts(dataset: Any, chosen: Rows) -> Counts:
    peeked = chosen[:: max(1, len(chosen) // _PEEKED)]
    if not any(True for row in peeked.tolist() for _ in _items(dataset[row])):
        return {}
    found: Counts = {}
    for place, row in enumerate(chosen.tolist()):
        for name, count in _items(dataset[row]):
            found.setdefault(name, np.zeros(len(chosen), np.int64))[place] = count
    return found


def _items(features: Any) -> Iterator[tuple[str, int]]:
    """Lengths of the lists of a row that do not hold its tokens."""
    for name, value in features.items() if isinstance(features, Mapping) else ():
        if name in _BY_TOKEN or isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
            continue
        shape = getattr(value, "shape", None)
        if shape is None or len(shape):
            yield name, len(value)
