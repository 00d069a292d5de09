"""Token ids of many rows as plain arrays, a block at a time: for what counts tokens and needs no model.

A Hugging Face dataset is read as Arrow, so that no row becomes Python objects: a nanosecond a token in place of fifty.

Shapes: R rows of a block, T tokens of them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dataflex.data.unreadable import naming_unreadable
from dataflex.errors import ComponentError
from dataflex.math.losses import IGNORE_INDEX

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Part = Literal["all", "prompt", "answer"]

BLOCK = 200_000
"""Tokens of a block: arithmetic on so many stays in a processor's cache."""

_IDS, _MASK, _POSITIONS, _LABELS = "input_ids", "attention_mask", "position_ids", "labels"
_FIRST_READ, _MOST_ROWS = 64, 10_000


@dataclass(frozen=True, eq=False)
class TokenBlock:
    """Some rows, one after another.

    Attributes:
        start: The first row.
        lengths: Tokens of each row, padding included, shape [R]; some may be 0.
        ids: Token ids, shape [T].
        kept: Tokens that count, shape [T]: no padding, and in the part asked for. ``None`` where all do.
        begins: Tokens that begin a row or, in a packed row, another sample, shape [T].
    """

    start: int
    lengths: Whole
    ids: Whole
    kept: Flags | None
    begins: Flags

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + len(self.lengths)


def token_blocks(dataset: Any, start: int, stop: int, *, part: Part = "all", size: int = BLOCK) -> Iterator[TokenBlock]:
    """Read the rows ``start`` to ``stop - 1``.

    Padding never counts: what the attention mask leaves out and, as ``packing`` without ``neat_packing`` masks nothing,
    the zeros that end a packed row's position ids, where none of them is learnt. Samples of a packed row are told by an
    attention mask that numbers them, or by position ids that begin again.

    Args:
        dataset: Map-style pool or eval set with the column ``input_ids``.
        start: First row.
        stop: Row after the last.
        part: ``answer``: tokens with a label (all of them where there is no column ``labels``: pretraining);
            ``prompt``: the others.
        size: Tokens of a block, about; blocks hold whole rows.

    Raises:
        ComponentError: naming a row that cannot be read, or when the rows have no ``input_ids``.
    """
    if stop <= start:
        return
    names = _names(dataset, start, part)
    arrow = hasattr(dataset, "with_format") and getattr(dataset, "format", {}).get("type") != "custom"
    tables: Any = dataset.with_format("arrow", columns=names) if arrow else None
    count = _FIRST_READ
    while start < stop:
        rows = range(start, min(start + count, stop))
        with naming_unreadable(dataset, rows):
            columns = _of_arrow(tables[rows.start : rows.stop], names) if arrow else _of_rows(dataset, rows, names)
        block = _block(start, columns, part)
        yield block
        start, count = rows.stop, min(max(1, len(rows) * size // max(len(block.ids), 1)), _MOST_ROWS, 2 * count)


_Column = tuple[Whole, Whole]
"""Lengths of rows, and their values one after another."""


def _names(dataset: Any, row: int, part: Part) -> list[str]:
    with naming_unreadable(dataset, [row]):
        found = list(dataset[row])
    if _IDS not in found:
        raise ComponentError(
            f"the rows have no {_IDS} (they have: {', '.join(map(str, found))}): their tokens cannot be counted. Use "
            "stage: sft or pt, or a component that asks the model."
        )
    labels = [_LABELS] if part != "all" or _POSITIONS in found else []  # else they tell nothing, and are most to read
    return [_IDS, *(name for name in (_MASK, _POSITIONS, *labels) if name in found)]


def _of_arrow(table: Any, names: Sequence[str]) -> dict[str, _Column]:
    found = {}
    for name in names:
        lengths, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for chunk in table[name].chunks:
            if hasattr(chunk.type, "value_type") and hasattr(chunk.type.value_type, "value_type"):  # a plane an axis
                planes = [np.asarray(row[0] if row else [], np.int64) for row in chunk.to_pylist()]
                lengths.append(np.array([len(plane) for plane in planes], np.int64))
                values += planes
                continue
            lengths.append(chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))
            values.append(chunk.flatten().to_numpy(zero_copy_only=False))
        found[name] = np.concatenate(lengths), np.concatenate(values[1:]) if len(values) > 1 else values[0]
    return found


def _of_rows(dataset: Any, rows: range, names: Sequence[str]) -> dict[str, _Column]:
    read: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    for row in rows:
        features = dataset[row]
        for name in names:
            values = np.asarray(features[name])
            read[name].append((values[0] if values.ndim > 1 else values).astype(np.int64))
    return {
        name: (np.array([len(each) for each in values], np.int64), np.concatenate([np.zeros(0, np.int64), *values]))
        for name, values in read.items()
    }


def _block(start: int, columns: dict[str, _Column], part: Part) -> TokenBlock:
    lengths, ids = columns[_IDS]
    for name, (theirs, _) in columns.items():
        if not np.array_equal(theirs, lengths):
            row = int(np.flatnonzero(theirs != lengths)[0])
            raise ComponentError(
                f"row {start + row} has {lengths[row]} {_IDS} and {theirs[row]} {name}, but there is one a token."
            )
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    begins = np.zeros(len(ids), bool)
    begins[starts] = True
    mask, positions, labels = (columns.get(name, (None, None))[1] for name in (_MASK, _POSITIONS, _LABELS))
    kept: Flags | None = None
    if mask is not None:
        if mask.size and int(mask.max()) > 1:
            begins[1:] |= mask[1:] != mask[:-1]
        kept = None if mask.all() else mask != 0
    if positions is not None and len(ids):
        tail, told = _tails(positions, labels, starts, lengths[lengths > 0])
        begins |= (positions == 0) & told
        kept = _both(kept, ~tail) if tail.any() else kept
    if part == "prompt":
        kept = _both(kept, labels == IGNORE_INDEX if labels is not None else np.zeros(len(ids), bool))
    elif part == "answer" and labels is not None:
        kept = _both(kept, labels != IGNORE_INDEX)
    return TokenBlock(start, lengths, ids, kept, begins)


def _tails(positions: Whole, labels: Whole | None, starts: Whole, lengths: Whole) -> tuple[Flags, Flags]:
    """Where padding ends a row by its position ids, and where these tell of samples at all.

    Zeros that end a row are padding if there are labels and none of theirs is learnt or, without labels, if they are
    several. A row of zeros tells nothing.
    """
    numbers = np.arange(len(positions))
    last = np.maximum.reduceat(np.where(positions != 0, numbers, -1), starts)
    told = np.repeat(last >= 0, lengths)
    tail = told & (numbers > np.repeat(last, lengths))
    if labels is not None:
        learnt = np.logical_or.reduceat(tail & (labels != IGNORE_INDEX), starts)
        return tail & ~np.repeat(learnt, lengths), told
    return tail & np.repeat(np.add.reduceat(tail.astype(np.int64), starts) > 1, lengths), told


def _both(kept: Flags | None, more: Flags) -> Flags:
    return more if kept is None else kept & more
