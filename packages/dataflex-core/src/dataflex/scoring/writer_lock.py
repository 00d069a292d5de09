"""A lock file for one writer among processes of several machines, which a writer that died does not hold for ever."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

STALE_SECONDS = 60.0
"""A lock that nobody has touched for so long belongs to a process that is gone."""


class WriterLock:
    """A file with its holder's name, touched by a thread while it is held.

    Args:
        path: Where the file is; its folder exists.
        stale: Seconds without a touch after which the lock is taken over.
    """

    def __init__(self, path: Path, stale: float | None = None) -> None:
        self._path, self._stale = path, STALE_SECONDS if stale is None else stale
        self._own = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})
        self._held = False
        self._let_go = threading.Event()
        self._seen: tuple[str, int] = ("", 0)
        self._since = time.monotonic()

    def acquire(self) -> bool:
        """Take the lock if it is free, or its holder is gone; not if someone holds it.

        Raises:
            OSError: when the folder cannot be written to.
        """
        if self._held:
            return True
        if not self._create():
            if not self._holder_is_gone():
                return False
            self._take_away()
            if not self._create():
                return False
        self._held = True
        self._let_go.clear()
        threading.Thread(target=self._beat, name="index lock", daemon=True).start()
        return True

    def release(self) -> None:
        """Let go of it, if it is held."""
        if not self._held:
            return
        self._held = False
        self._let_go.set()
        with contextlib.suppress(OSError):
            if self._path.read_text(encoding="utf-8") == self._own:
                self._path.unlink()

    def holder(self) -> str:
        """Who holds it, in words."""
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            return f"process {record['pid']} on {record['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _create(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._own)
        return True

    def _holder_is_gone(self) -> bool:
        """Clocks of machines differ, so the time is counted from when this process first saw the lock as it is."""
        try:
            text, touched = self._path.read_text(encoding="utf-8"), self._path.stat().st_mtime_ns
        except OSError:
            return True
        if self._seen != (text, touched):
            self._seen, self._since = (text, touched), time.monotonic()
        return _has_died(text) or time.monotonic() - self._since >= self._stale

    def _take_away(self) -> None:
        """Remove the lock that was judged; another one that has come in its place is put back."""
        aside = self._path.with_name(f"{self._path.name}-{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            os.rename(self._path, aside)
            if aside.read_text(encoding="utf-8") != self._seen[0]:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self._path)
            aside.unlink()

    def _beat(self) -> None:
        while not self._let_go.wait(self._stale / 4):
            with contextlib.suppress(OSError):
                if self._path.read_text(encoding="utf-8") != self._own:
                    return  # taken over: what both write is the same
                os.utime(self._path)


def _has_died(text: str) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    try:
        record = json.loads(text)
        if record["host"] != socket.gethostname():
            return False
        pid = int(record["pid"])
        if pid == os.getpid():
            return False
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False
