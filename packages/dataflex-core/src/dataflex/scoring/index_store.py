"""Embeddings on disk: found by what they depend on, made by one process at a time, gone on with after a kill.

::

    FOLDER/embeddings-KEY/           finished: rows.npy, values.npy (fp16), mean.npy, meta.json
    FOLDER/embeddings-KEY.parts/     what was finished so far, a file each minute and rank
    FOLDER/embeddings-KEY.lock       who makes it; touched every few seconds
    FOLDER/embeddings-KEY.tmp-HOST-PID   on its way to the first

KEY is a hash of weights, rows, settings, precision and the version of this code. No file is changed once it is there.

Shapes: n rows, d numbers of a row.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint.state import write_atomically
from dataflex.distributed import all_gather
from dataflex.scoring.index_cache import PREFIX
from dataflex.scoring.writer_lock import WriterLock

logger = logging.getLogger("dataflex")

_ASK_AGAIN = 1.0  # seconds between two looks at another writer's lock

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
        self._lock = WriterLock(folder / f"{PREFIX}{key}.lock")
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
        waited = False
        while True:
            said = all_gather(self._look() if self._rank == 0 else "", self._accelerator)[0]
            if said != "wait":
                self._began, self._cpu = time.monotonic(), time.process_time()
                return bool(said == "make")
            if not waited and self._rank == 0:
                logger.info("waiting for %s, who makes %s.", self._lock.holder(), self.path)
            waited = True
            time.sleep(_ASK_AGAIN)

    def release(self) -> None:
        """Let others make what is not finished."""
        self._lock.release()

    def read(self) -> Index | None:
        """The finished index, on rank 0; ``None`` if there is none, or it is damaged."""
        try:
            meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
            arrays = [np.load(self.path / f"{name}.npy", allow_pickle=False) for name in ("rows", "values", "mean")]
            rows, values, mean = arrays
            if values.dtype != np.float16 or values.shape != (len(rows), len(mean)):
                raise ValueError(f"values of {values.dtype} and shape {values.shape}")
            return Index(rows, values, mean, float(meta["seconds"]), float(meta["cpu_seconds"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError) as error:
            logger.warning("%s is damaged (%s): it is made again.", self.path, error)
            shutil.rmtree(self.path, ignore_errors=True)
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
        name = f"{self._rank:04d}-{_here()}-{self._number:06d}.npz"
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
        temporary = self.path.with_name(f"{self.path.name}.tmp-{_here()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            for name, array in (("rows", index.rows), ("values", index.values), ("mean", index.mean)):
                with (temporary / f"{name}.npy").open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())
            shape = {"rows": len(index.rows), "width": index.values.shape[1]}
            cost = {"seconds": index.seconds, "cpu_seconds": index.cpu_seconds, "made": time.time()}
            text = json.dumps({**facts, **shape, **cost}, indent=1)
            write_atomically(temporary / "meta.json", text.encode())
            try:
                os.replace(temporary, self.path)
            except OSError:
                if not (self.path / "meta.json").is_file():  # else another run was first
                    raise
        except OSError as error:
            logger.warning("embeddings could not be kept in %s: %s", self.path, error)
        else:
            shutil.rmtree(self._parts, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _look(self) -> str:
        if (self.path / "meta.json").is_file():
            return "ready"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                return "wait"
        except OSError as error:
            logger.warning("embeddings cannot be kept in %s: %s", self.path.parent, error)
            return "make"
        if (self.path / "meta.json").is_file():  # finished between the look and the lock
            self._lock.release()
            return "ready"
        return "make"


def _here() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"
