"""Whether a run is at work, from what it leaves beside its record: its end, its lock and its sign of life."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from dataflex.record import alive, lock
from dataflex.record.run import FOLDER, RunInfo

SILENCE = 60.0
"""Seconds of watching without a sign after which a run is taken for dead."""

_LONGEST_LOOK = 15.0  # seconds that count between two looks: the watcher may have been asleep itself


class State(StrEnum):
    """What is known of a run."""

    RUNNING = "running"
    ENDED = "ended"
    DEAD = "dead"
    UNSURE = "not known yet"


@dataclass(frozen=True)
class Sign:
    """What is known of a run, and from what.

    Attributes:
        state: What is known.
        why: From what, in words; ``""`` where that goes without saying.
    """

    state: State
    why: str = ""


class Pulse:
    """Watches one output directory. Reads the lock file, but never takes the lock.

    Args:
        folder: The output directory.
        now: A clock of this process, in seconds.
        host: Name of this machine.
    """

    def __init__(
        self, folder: Path, now: Callable[[], float] = time.monotonic, host: str = socket.gethostname()
    ) -> None:
        self._alive, self._lock = folder / FOLDER / alive.NAME, folder / FOLDER / lock.NAME
        self._now, self._host = now, host
        self._looked: float | None = None
        self._seen: int | None = None
        self._silent, self._beats = 0.0, 0
        self._gone: Any = None  # the lock whose process was found gone, and the beats seen by then
        self._beats_then = 0

    def look(self, info: RunInfo | None) -> Sign:
        """Look once.

        Args:
            info: The run's record, as it is now.
        """
        self._count(self._touched())
        holder = self._holder()
        if info is not None and info.ending is not None:
            return Sign(State.ENDED)
        if holder is not None and self._is_gone(holder):
            return Sign(State.DEAD, f"process {holder['pid']} is gone")
        if self._seen is None:
            return self._without_beats(info, holder)
        if self._silent >= SILENCE:
            return Sign(State.DEAD, f"no sign of life for {self._silent:.0f} s")
        if self._beats or (holder is not None and holder.get("host") == self._host):
            return Sign(State.RUNNING)
        return Sign(State.UNSURE, f"no sign of life yet; known within {SILENCE:.0f} s")

    def _without_beats(self, info: RunInfo | None, holder: Any) -> Sign:
        if holder is not None and holder.get("host") == self._host:
            return Sign(State.RUNNING)
        if self._lock.exists():
            return Sign(State.UNSURE, "its version of dataflex-core gives no sign of life")
        if info is not None:
            return Sign(State.DEAD, "it stopped without an end, and holds its directory no more")
        return Sign(State.UNSURE, "a run without DataFlex's record gives no sign of life")

    def _count(self, touched: int | None) -> None:
        """Count the seconds of watching without a change."""
        now = self._now()
        if self._looked is None or touched is None:
            self._silent = 0.0
        elif touched != self._seen:
            self._silent, self._beats = 0.0, self._beats + 1
        else:
            self._silent += min(now - self._looked, _LONGEST_LOOK)
            self._beats = 0 if self._silent >= SILENCE else self._beats
        self._looked, self._seen = now, touched

    def _touched(self) -> int | None:
        with suppress(OSError):
            return self._alive.stat().st_mtime_ns
        return None

    def _holder(self) -> dict[str, Any] | None:
        """What the lock file says; ``None`` if that is nothing."""
        with suppress(OSError, ValueError):
            found = json.loads(self._lock.read_text(encoding="utf-8"))
            if isinstance(found, dict) and isinstance(found.get("pid"), int):
                return found
        return None

    def _is_gone(self, holder: dict[str, Any]) -> bool:
        """Whether the holder was a process of this machine. Not if it goes on giving signs: it sits in a container."""
        if holder.get("host") != self._host or _runs(holder):
            self._gone = None
            return False
        if self._gone != holder:
            self._gone, self._beats_then = holder, self._beats
        return self._beats <= self._beats_then


def _runs(holder: dict[str, Any]) -> bool:
    """Whether the process is there, and not another that has got its number since."""
    try:
        process = psutil.Process(holder["pid"])
        since = holder.get("since")
        other = isinstance(since, (int, float)) and process.create_time() > since + 1
        return not other and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OverflowError):
        return True
