"""Noticing where files are written, whoever writes them."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MAKING = frozenset({"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate"})


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
        if event == "open":
            path, _, flags = arguments
            paths = [path] if isinstance(flags, int) and flags & _WRITING else []
        else:
            paths = list(arguments[:2]) if event in _MAKING else []
        for path in paths:
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


def _counts(written: str, allowed: list[Path]) -> bool:
    path = Path(os.path.realpath(written))
    if path.suffix == ".pyc" or "__pycache__" in path.parts or path.parts[:2] in (("/", "dev"), ("/", "proc")):
        return False
    return not any(path.is_relative_to(folder) for folder in allowed)
