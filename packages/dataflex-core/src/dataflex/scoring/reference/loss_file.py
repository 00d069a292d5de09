"""Token losses of a whole pool in files: 2 bytes a token, written row by row, read through a memory map.

    DIR/losses.f16   the losses of each row, one row after another, fp16
    DIR/counts.i32   how many of them are known; -1 for a row that was not scored yet
    DIR/meta.json    written when both exist: format, vocabulary, rows, tokens

A row is written before its count, so a kill loses at most the rows under way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint.state import write_atomically
from dataflex.errors import ComponentError
from dataflex.scoring.reference.model import not_finite

Whole = npt.NDArray[np.int64]

FORMAT = 1
UNKNOWN = -1
_LOSSES, _COUNTS, _META = "losses.f16", "counts.i32", "meta.json"
_LARGEST = float(np.finfo(np.float16).max)


@dataclass
class LossFile:
    """The files of one pool and one reference.

    Args:
        folder: Where they lie.
        capacity: Most target tokens of each row; shape ``[rows]``.
        model: The reference's name, for messages.
    """

    folder: Path
    capacity: Whole
    model: str

    def __post_init__(self) -> None:
        self._offsets = np.concatenate([[0], np.cumsum(self.capacity)]).astype(np.int64)
        self._losses: npt.NDArray[np.float16] | None = None
        self._counts: npt.NDArray[np.int32] | None = None

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return (self.folder / _META).is_file()

    def create(self, vocabulary: int) -> None:
        """Make empty files. One process does this, before any other writes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _COUNTS).write_bytes(np.full(len(self.capacity), UNKNOWN, np.int32).tobytes())
        with (self.folder / _LOSSES).open("wb") as file:
            file.truncate(int(self._offsets[-1]) * np.dtype(np.float16).itemsize)
        meta = {"format": FORMAT, "vocabulary": vocabulary, "rows": len(self.capacity), "tokens": self.tokens}
        write_atomically(self.folder / _META, json.dumps(meta).encode())

    @property
    def tokens(self) -> int:
        """Room for so many losses."""
        return int(self._offsets[-1])

    @property
    def vocabulary(self) -> int:
        """Size of the reference's vocabulary."""
        return int(json.loads((self.folder / _META).read_text(encoding="utf-8"))["vocabulary"])

    def missing(self) -> Whole:
        """Rows that were not scored yet, in order."""
        counts = np.fromfile(self.folder / _COUNTS, np.int32)
        return np.flatnonzero(counts == UNKNOWN).astype(np.int64)

    def write(self, rows: Sequence[int], losses: Sequence[npt.NDArray[np.float32]]) -> None:
        """Write the losses of some rows. Several processes may, each its own rows.

        Raises:
            ComponentError: when a row has more targets than its labels said, or a loss is not finite. None of the
                rows counts as known then.
        """
        unknown = [row for row, found in zip(rows, losses, strict=True) if not np.isfinite(found).all()]
        if unknown:
            raise not_finite(self.model, unknown)
        with (self.folder / _LOSSES).open("r+b") as values, (self.folder / _COUNTS).open("r+b") as counts:
            for row, found in zip(rows, losses, strict=True):
                if len(found) > self.capacity[row]:
                    raise ComponentError(
                        f"row {row} has {len(found)} target tokens in its batch, but {self.capacity[row]} in the pool: "
                        "the collator adds targets, so reference losses cannot be cached. Use reference_losses: live."
                    )
                halves = np.minimum(found, _LARGEST).astype(np.float16)
                os.pwrite(values.fileno(), halves.tobytes(), int(self._offsets[row]) * halves.itemsize)
            for row, found in zip(rows, losses, strict=True):
                os.pwrite(counts.fileno(), np.int32(len(found)).tobytes(), row * np.dtype(np.int32).itemsize)

    def flush(self) -> None:
        """Force everything to disk."""
        for name in (_LOSSES, _COUNTS):
            with (self.folder / name).open("r+b") as file:
                os.fsync(file.fileno())

    def read(self, rows: Sequence[int], targets: Sequence[int]) -> npt.NDArray[np.float16]:
        """Losses of some rows, one row after another.

        Args:
            rows: Rows of the pool.
            targets: Target tokens of each in its batch.

        Raises:
            ComponentError: when a row had another number of targets when it was scored.
        """
        losses, counts = self._opened()
        parts = []
        for row, wanted in zip(rows, targets, strict=True):
            if not wanted:
                continue
            if counts[row] != wanted:
                raise ComponentError(
                    f"row {row} has {wanted} target tokens, but had {counts[row]} when its reference losses were "
                    f"cached in {self.folder}. A collator that draws at random cannot be cached for: use "
                    "reference_losses: live."
                )
            parts.append(losses[self._offsets[row] : self._offsets[row] + wanted])
        return np.concatenate([np.zeros(0, np.float16), *parts])

    def means(self, rows: Whole) -> npt.NDArray[np.float64]:
        """Mean loss of each of some rows, fp64, shape of ``rows``; NaN for a row without a target."""
        losses, counts = self._opened()
        found = np.full(len(rows), np.nan)
        for place, row in enumerate(rows.tolist()):
            if counts[row] > 0:
                begin = self._offsets[row]
                found[place] = losses[begin : begin + counts[row]].mean(dtype=np.float64)
        return found

    def _opened(self) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int32]]:
        if self._losses is None or self._counts is None:
            self._losses = np.memmap(self.folder / _LOSSES, np.float16, "r") if self.tokens else np.zeros(0, np.float16)
            self._counts = np.fromfile(self.folder / _COUNTS, np.int32)
        return self._losses, self._counts
