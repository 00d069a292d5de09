"""Atomic file replacement and append-only lines: a kill leaves a file old or new, and cuts at most the last line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from dataflex.errors import ConfigError

Record = TypeVar("Record")


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a kill at any moment leaves a whole file, the old one or the new.

    Written under a temporary name beside it, forced to disk and renamed; the folder is forced to disk as well.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole, see :func:`write_atomically`; its folder is made if need be.

    What is no letter, as in the name of a file that Python could not read, is written by its code point.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def append_line(path: Path, line: str, *, sync: bool = True) -> None:
    """Add a line to a file.

    Args:
        path: The file; it and its folder are made if need be.
        line: Without the line break.
        sync: Force it to disk, which costs milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())


def read_lines(path: Path, parse: Callable[[str], Record], what: str) -> Iterator[Record]:
    """Records of a file of lines; none if there is no file. A last line that a kill cut short is left out.

    Args:
        path: The file.
        parse: From a line to a record.
        what: What a line should be, for the message.

    Raises:
        ConfigError: for a damaged line that was not cut short, with what is wrong in it.
    """
    if not path.exists():
        return
    *lines, cut_short = path.read_bytes().split(b"\n")
    for number, line in enumerate([*lines, cut_short] if cut_short else lines, start=1):
        try:
            yield parse(line.decode("utf-8"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number > len(lines):
                return
            raise ConfigError(f"{path}, line {number} is not {what} ({error}). Move the file away.") from error


def leads_outside(reference: str) -> bool:
    """Whether a path that a file names leads out of the folder it is relative to, on this system or another."""
    paths = (PurePosixPath(reference), PureWindowsPath(reference))
    return "\0" in reference or any(path.anchor or ".." in path.parts for path in paths)


def replace_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file of lines whole, see :func:`replace_text`."""
    replace_text(path, "".join(line + "\n" for line in lines))


def parse_object(line: str) -> dict[str, Any]:
    """A JSON object on one line; raises ``ValueError`` for anything else."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return record
