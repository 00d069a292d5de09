"""A file that says that a run is at work: touched every 15 seconds, scoring included. Standard library only.

Whoever watches compares two looks of its own at the file, not the clocks of two machines (:mod:`dataflex.watch.pulse`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from dataflex.record import lock

NAME = "alive"
EVERY = 15.0
"""Seconds between two touches."""


@contextlib.contextmanager
def at_work(output_dir: Path, folder: str) -> Iterator[None]:
    """Hold an output directory and say so for as long as the body runs. Only rank 0 does.

    Args:
        output_dir: As of :func:`dataflex.record.lock.hold`.
        folder: Name of our folder in it.

    Raises:
        ConfigError: if another run holds it, or it cannot be written to.
    """
    with lock.hold(output_dir, folder), beating(output_dir / folder):
        yield


@contextlib.contextmanager
def beating(folder: Path, every: float = EVERY) -> Iterator[None]:
    """Touch a file from a thread for as long as the body runs, and delete it at the end.

    A run that is killed leaves it. Where it cannot be written, as on a full disk, the run goes on without.

    Args:
        folder: Our folder in the output directory; it is there.
        every: Seconds between two touches.
    """
    path, over = folder / NAME, threading.Event()
    _touch(path)
    thread = threading.Thread(target=_beat, args=(path, over, every), name="dataflex-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1)  # no file system that hangs holds up the end
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _beat(path: Path, over: threading.Event, every: float) -> None:
    while not over.wait(every):
        _touch(path)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.touch()
