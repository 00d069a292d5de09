"""Noticing where files are written, whoever writes them."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MAKING = {
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.remove": 1,
    "os.truncate": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
}
"""Audit events that tell of a change, with the number of paths that their arguments begin with."""

_REMOVING = ("os.remove", "os.rmdir")


@contextlib.contextmanager
def watched_writes(*allowed: Path) -> Iterator[list[str]]:
    """Collect the paths of files that are written, made, renamed or removed outside some folders.

    Python's own audit events tell; what native code writes is noticed in the working directory only. Bytecode, devices
    and temporary files are nobody's business: while it lasts, those go to the first of the folders.

    Args:
        allowed: Folders that may be written to.

    Yields:
        The paths, filled while the block runs and complete at its end.
    """
    places = [folder.resolve() for folder in allowed]
    found: list[str] = []
    watching = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if not watching:
            return
        for path in _changed(event, arguments):
            if isinstance(path, (str, bytes, os.PathLike)) and _counts(os.fsdecode(path), places):
                found.append(os.fsdecode(path))

    before, temporary = set(os.listdir()), tempfile.tempdir
    tempfile.tempdir = str(places[0])
    sys.addaudithook(note)  # cannot be taken back: it stays, and looks away
    try:
        yield found
    finally:
        watching = False
        tempfile.tempdir = temporary
    found += sorted(set(os.listdir()) - before - {Path(path).name for path in found})


def _changed(event: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
    """The paths that an audit event says are changed."""
    if event == "open":
        path, _, flags = arguments
        return (path,) if isinstance(flags, int) and flags & _WRITING else ()
    if event in _REMOVING and arguments[-1] != -1:
        return ()  # relative to an open folder, as shutil.rmtree empties one; it ends with that folder's own path
    return arguments[: _MAKING.get(event, 0)]


def _counts(written: str, allowed: list[Path]) -> bool:
    path = Path(os.path.realpath(written))
    if path.suffix == ".pyc" or "__pycache__" in path.parts or path.parts[:2] in (("/", "dev"), ("/", "proc")):
        return False
    return not any(path.is_relative_to(folder) for folder in allowed)
