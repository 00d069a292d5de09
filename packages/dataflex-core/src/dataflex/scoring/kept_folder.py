"""A folder on disk that is found by what its content depends on: made by one process at a time, whole or not at all.

::

    FOLDER/PREFIXKEY/                finished: what the caller writes, and meta.json
    FOLDER/PREFIXKEY.lock            who makes it; touched every few seconds
    FOLDER/PREFIXKEY.tmp-HOST-PID    on its way to the first

KEY is a hash of everything that the content depends on. No file is changed once it is there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataflex.checkpoint.state import write_atomically
from dataflex.distributed import all_gather
from dataflex.scoring.writer_lock import WriterLock

logger = logging.getLogger("dataflex")

META = "meta.json"
"""What was made, of what, and what it took; a folder that holds it is finished."""

_ASK_AGAIN = 1.0  # seconds between two looks at another writer's lock


class KeptFolder:
    """The place of one finished thing on disk. Rank 0 looks, waits, writes; every rank is told.

    Args:
        path: Its folder, named by its key.
        what: What is kept, in words: ``"embeddings"``.
        rank: Index of this process.
        accelerator: The run's accelerator, or ``None`` on one process.
    """

    def __init__(self, path: Path, what: str, *, rank: int = 0, accelerator: Any = None) -> None:
        self.path, self._what, self._rank, self._accelerator = path, what, rank, accelerator
        self._lock = WriterLock(path.with_name(f"{path.name}.lock"))

    def claim(self) -> bool:
        """Wait until it is there or is this run's to make. Called on every rank.

        Returns:
            Whether it is to be made; the lock is held then until :meth:`release`.
        """
        waited = False
        while True:
            said = all_gather(self._look() if self._rank == 0 else "", self._accelerator)[0]
            if said != "wait":
                return bool(said == "make")
            if not waited and self._rank == 0:
                logger.info("waiting for %s, who makes %s.", self._lock.holder(), self.path)
            waited = True
            time.sleep(_ASK_AGAIN)

    def release(self) -> None:
        """Let others make what is not finished."""
        self._lock.release()

    def meta(self) -> dict[str, Any]:
        """What was written beside it.

        Raises:
            OSError: when it is not finished.
            ValueError: when that is damaged.
        """
        return dict(json.loads((self.path / META).read_text(encoding="utf-8")))

    def discard(self, error: Exception) -> None:
        """Delete what turned out to be damaged."""
        logger.warning("%s is damaged (%s): it is made again.", self.path, error)
        shutil.rmtree(self.path, ignore_errors=True)

    def publish(self, write: Callable[[Path], None], meta: Mapping[str, Any]) -> bool:
        """Put the finished thing in its place, on rank 0. A disk that fails costs what is kept, not the run.

        Args:
            write: Writes the files into the folder it is given.
            meta: What is written beside them, JSON values; ``made``, the time, is added.

        Returns:
            Whether it is there.
        """
        temporary = self.path.with_name(f"{self.path.name}.tmp-{here()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            write_atomically(temporary / META, json.dumps({**meta, "made": time.time()}, indent=1).encode())
            try:
                os.replace(temporary, self.path)
            except OSError:
                if not (self.path / META).is_file():  # else another run was first
                    raise
        except OSError as error:
            logger.warning("%s could not be kept in %s: %s", self._what, self.path, error)
            return False
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return True

    def _look(self) -> str:
        if (self.path / META).is_file():
            return "ready"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                return "wait"
        except OSError as error:
            logger.warning("%s cannot be kept in %s: %s", self._what, self.path.parent, error)
            return "make"
        if (self.path / META).is_file():  # finished between the look and the lock
            self._lock.release()
            return "ready"
        return "make"


def here() -> str:
    """This process among all that may write to one folder."""
    return f"{socket.gethostname()}-{os.getpid()}"
