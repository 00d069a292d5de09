"""Embeddings on disk: found by what they depend on, made by one process at a time, gone on with after a kill.

::

    FOLDER/embeddings-KEY/           finished: rows.npy, values.npy (fp16), mean.npy, meta.json
    FOLDER/embeddings-KEY.parts/     what was finished so far, a file each minute and rank

KEY is a hash of weights, rows, settings, precision and the version of this code;
:mod:`dataflex.scoring.kept_folder` says what lies beside it meanwhile.

Shapes: n rows, d numbers of a row.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint.state import write_atomically
from dataflex.distributed import all_gather
from dataflex.scoring.index_cache import PREFIX
from dataflex.scoring.kept_folder import KeptFolder, here

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
Half = npt.NDArray[np.float16]
Mean = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Index:
    """A finished index.

    Attributes:
        rows: Ascending, shape [n].
        values: fp16, shape [n, d].
        mean: What was subtracted, shape [d].
        seconds: What making it took.
        cpu_seconds: Likewise, over all ranks.
    """

    rows: Rows
    values: Half
    mean: Mean
    seconds: float
    cpu_seconds: float


class IndexStore:
    """The place of one index on disk. Rank 0 reads and writes the index; every rank writes parts of its own.

    Args:
        folder: Where indexes are.
        key: What this one depends on.
        rank: Index of this process.
        accelerator: The run's accelerator, or ``None`` on one process.
        seconds: How often finished parts are written; 0 never.
    """

    def __init__(self, folder: Path, key: str, *, rank: int = 0, accelerator: Any = None, seconds: float = 60) -> None:
        self.path = folder / f"{PREFIX}{key}"
        self._parts = folder / f"{PREFIX}{key}.parts"
        self._kept = KeptFolder(self.path, "embeddings", rank=rank, accelerator=accelerator)
        self._rank, self._accelerator, self._seconds = rank, accelerator, seconds
        self._pending: list[tuple[Rows, Half]] = []
        self._began = self._written = time.monotonic()
        self._cpu = time.process_time()
        self._number = 0
        self._earlier = (0.0, 0.0)

    def claim(self) -> bool:
        """Wait until the index is there or is this run's to make. Called on every rank.

        Returns:
            Whether it is to be made; the lock is held then until :meth:`release`.
        """
        made = self._kept.claim()
        self._began, self._cpu = time.monotonic(), time.process_time()
        return made

    def release(self) -> None:
        """Let others make what is not finished."""
        self._kept.release()

    def read(self) -> Index | None:
        """The finished index, on rank 0; ``None`` if there is none, or it is damaged."""
        try:
            meta = self._kept.meta()
            arrays = [np.load(self.path / f"{name}.npy", allow_pickle=False) for name in ("rows", "values", "mean")]
            rows, values, mean = arrays
            if values.dtype != np.float16 or values.shape != (len(rows), len(mean)):
                raise ValueError(f"values of {values.dtype} and shape {values.shape}")
            return Index(rows, values, mean, float(meta["seconds"]), float(meta["cpu_seconds"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError) as error:
            self._kept.discard(error)
            return None

    def resume(self, rows: Rows) -> tuple[list[tuple[Rows, Half]], Mean | None]:
        """What earlier attempts finished, and what they had subtracted, the same on every rank.

        Nothing where ranks do not see the same files.
        """
        found, costs = [], np.zeros(2)
        origin = self._origin()
        for path in sorted(self._parts.glob("*.npz")):
            try:
                with np.load(path, allow_pickle=False) as part:
                    those, values = part["rows"], part["values"]
                    cost = part["cost"]
                known = np.isin(those, rows)
                found.append((those[known], values[known]))
                costs += cost
            except (OSError, ValueError, KeyError, EOFError) as error:
                if not self._rank:
                    logger.warning("%s is damaged (%s): its rows are embedded again.", path, error)
        digest = hashlib.blake2b(b"" if origin is None else origin.tobytes())
        for those, values in found:
            digest.update(those.tobytes() + values.tobytes())
        if len(set(all_gather(digest.hexdigest(), self._accelerator))) > 1:
            return [], None
        self._earlier = (float(costs[0]), float(costs[1]))
        return found, origin

    def begin(self, origin: Mean) -> None:
        """Keep what is subtracted from the rows of this attempt; parts of earlier ones are none of it."""
        if self._rank != 0 or not self._seconds:
            return
        try:
            shutil.rmtree(self._parts, ignore_errors=True)
            self._parts.mkdir(parents=True)
            data = io.BytesIO()
            np.save(data, origin, allow_pickle=False)
            write_atomically(self._parts / "origin.npy", data.getvalue())
        except OSError as error:
            logger.warning("embeddings could not be kept in %s: %s", self._parts, error)

    def _origin(self) -> Mean | None:
        try:
            return np.asarray(np.load(self._parts / "origin.npy", allow_pickle=False), np.float32)
        except (OSError, ValueError, EOFError):
            return None

    def add(self, rows: Rows, values: Half) -> None:
        """Keep a finished batch; written with others when it is time."""
        if not self._seconds:
            return
        self._pending.append((rows, values))
        if time.monotonic() - self._written >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. A disk that fails costs the chance to go on from here, not the run."""
        if not self._pending:
            return
        data = io.BytesIO()
        seconds, cpu = time.monotonic(), time.process_time()
        spent = [seconds - max(self._written, self._began) if self._rank == 0 else 0.0, cpu - self._cpu]
        np.savez(
            data,
            rows=np.concatenate([rows for rows, _ in self._pending]),
            values=np.concatenate([values for _, values in self._pending]),
            cost=np.asarray(spent),
        )
        self._pending, self._written, self._cpu = [], seconds, cpu
        name = f"{self._rank:04d}-{here()}-{self._number:06d}.npz"
        self._number += 1
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            write_atomically(self._parts / name, data.getvalue())
        except OSError as error:
            logger.warning("embeddings could not be kept in %s: %s", self._parts, error)

    @property
    def earlier(self) -> tuple[float, float]:
        """Seconds, and CPU seconds of all ranks, that earlier attempts spent on what :meth:`resume` found."""
        return self._earlier

    def write(self, index: Index, facts: dict[str, Any]) -> None:
        """Put the finished index in its place, on rank 0, and take the parts away."""

        def arrays(folder: Path) -> None:
            for name, array in (("rows", index.rows), ("values", index.values), ("mean", index.mean)):
                with (folder / f"{name}.npy").open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())

        shape = {"rows": len(index.rows), "width": index.values.shape[1]}
        cost = {"seconds": index.seconds, "cpu_seconds": index.cpu_seconds}
        if self._kept.publish(arrays, {**facts, **shape, **cost}):
            shutil.rmtree(self._parts, ignore_errors=True)
