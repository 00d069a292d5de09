"""What runs depend on beside their keys, by content: data sets and models."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataflex.checkpoint_keys import models
from dataflex.config.names import DATA_SETS, listed
from dataflex.paths import user_path

_INFO = "dataset_info.json"
_FILES_OF_ENTRY = ("file_name",)


def data_identity(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The data sets of a run by content, as dataset_info.json names them."""
    folder = arguments.get("dataset_dir", "data")
    entries = _entries(folder)
    for name in dict.fromkeys(name for key in DATA_SETS for name in listed(arguments.get(key))):
        entry = entries.get(name)
        if not isinstance(entry, Mapping):
            continue
        known = {key: value for key, value in entry.items() if key not in _FILES_OF_ENTRY}
        files = [_files(Path(str(folder)) / str(entry[key])) for key in _FILES_OF_ENTRY if key in entry]
        yield f"data:{name}", plain({**known, "files": files})


def _entries(folder: Any) -> Mapping[str, Any]:
    """What dataset_info.json says; nothing where it cannot be read, which the check of the run tells."""
    if isinstance(folder, Mapping):
        return folder
    try:
        found = json.loads((user_path(str(folder)) / _INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _files(path: Path) -> Any:
    """The contents of a file, or of all files below a folder by name."""
    try:
        if path.is_dir():
            found = [each for each in sorted(path.rglob("*")) if each.is_file()]
            return {str(each.relative_to(path)): file_digest(each) for each in found}
        return file_digest(path) if path.is_file() else str(path.name)
    except OSError:
        return str(path.name)


def file_digest(path: Path) -> str:
    """The hash of a file's bytes."""
    stat = path.stat()
    return _digest_of(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest_of(path: str, size: int, modified: int) -> str:
    """A file is read once in a call: several runs name the same."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """A JSON value; numbers that are equal are one."""
    read = json.loads(json.dumps(value, default=str))
    return float(read) if type(read) is int else read


def model_content(name: str) -> str:
    """What tells a model from others: its files; of one on a hub its name."""
    folder = user_path(name)
    try:
        return (models.identity(folder) if folder.is_dir() else "") or name
    except OSError:
        return name
