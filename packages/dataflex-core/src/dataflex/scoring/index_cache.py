"""What embeddings and scores of rows lie in a folder, and deleting them. Standard library only."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PREFIX, SCORES = "embeddings-", "row-scores-"
"""How the name of an index begins, and of what one model says of each row; the key follows."""

_NAME = re.compile(rf"((?:{PREFIX}|{SCORES})[0-9a-f]{{24}})(\.parts|\.lock|\.tmp-.+)?")
_HELD_SECONDS = 60.0  # a lock that was touched so lately is held


@dataclass(frozen=True, kw_only=True)
class CachedIndex:
    """One index of embeddings, or one set of scores; finished or not.

    Attributes:
        path: Its folder; of one that is not finished, where it would be.
        finished: Whether it can be used.
        held: Whether a process is making it.
        bytes: What it takes on disk, with what was left of attempts.
        rows: Rows in it; 0 if it is not finished, as all below.
        width: Numbers of a row.
        model: ``run`` for a run's own model, or the name of another one.
        made: When, in seconds since 1970.
        seconds: What making it took.
        cpu_seconds: Likewise, over all ranks.
        spec: What the embeddings are made of, or which scores they are.
    """

    path: Path
    finished: bool = False
    held: bool = False
    bytes: int = 0
    rows: int = 0
    width: int = 0
    model: str = ""
    made: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    spec: dict[str, Any] | None = None


def cached_indexes(folder: Path) -> list[CachedIndex]:
    """The indexes in a folder and below it, by path."""
    names: dict[Path, list[Path]] = {}
    for path in _found(folder):
        match = _NAME.fullmatch(path.name)
        if match is not None:
            names.setdefault(path.with_name(match.group(1)), []).append(path)
    return [_read(path, parts) for path, parts in sorted(names.items())]


def clear(folder: Path, *, unfinished: bool = False) -> tuple[list[CachedIndex], list[CachedIndex]]:
    """Delete the indexes in a folder and below it; one that a process is making stays.

    Args:
        folder: Where.
        unfinished: Delete only what is not finished.

    Returns:
        Those deleted, and those that were left because they are being made.

    Raises:
        OSError: when one cannot be deleted.
    """
    chosen = [index for index in cached_indexes(folder) if not (unfinished and index.finished)]
    held = [index for index in chosen if index.held]
    for index in (index for index in chosen if not index.held):
        for path in index.path.parent.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None and match.group(1) == index.path.name:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [index for index in chosen if not index.held], held


def _found(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files) if name.startswith((PREFIX, SCORES)))
        folders[:] = [name for name in folders if not name.startswith((PREFIX, SCORES))]


def _read(path: Path, parts: list[Path]) -> CachedIndex:
    size = sum(_size(part) for part in parts)
    held = any(_is_held(part) for part in parts if part.name.endswith(".lock"))
    index = CachedIndex(path=path, held=held, bytes=size)
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        return replace(
            index,
            finished=True,
            rows=int(meta["rows"]),
            width=int(meta["width"]),
            model=str(meta["model"]),
            made=float(meta["made"]),
            seconds=float(meta["seconds"]),
            cpu_seconds=float(meta["cpu_seconds"]),
            spec=dict(meta["spec"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return index


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _is_held(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime < _HELD_SECONDS
    except OSError:
        return False
