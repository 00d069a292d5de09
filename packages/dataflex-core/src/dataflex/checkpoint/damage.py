"""Whether a checkpoint is whole, who wrote it, and whether this release can read it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataflex.checkpoint import component as component_state
from dataflex.checkpoint import files as checkpoint_files
from dataflex.checkpoint.engine_state import (
    COMPLETE,
    ENGINE,
    FILES,
    FOLDER,
    KEYS,
    PLAN,
    READ,
    VERSION,
    WEIGHTS,
    EngineState,
)
from dataflex.checkpoint.files import FilesRecord
from dataflex.record import fields as records

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LATER = frozenset({"data_seed", "run_id"})  # fields that an engine.json of an earlier release has not
_HASHED = frozenset({PLAN, WEIGHTS, component_state.TENSORS, component_state.VALUES, KEYS, FILES})


@dataclass(frozen=True)
class _Head:
    """What of ``engine.json`` is not the engine's."""

    version: int
    sha256: Mapping[str, str]


def why_damaged(checkpoint: Path, *, weights_only: bool = False) -> str:
    """Why a checkpoint is not whole, or not to be read by this release; ``""`` if it is.

    Reads and hashes the engine's files, and looks at the others as ``files.json`` has them. A checkpoint of an earlier
    release has no such record: of its other files only ``trainer_state.json`` is looked at.

    Args:
        checkpoint: The checkpoint.
        weights_only: Whether only its weights are needed: optimizer state and the like may then be gone.
    """
    reason, files = _own_damage(checkpoint)
    if reason:
        return reason
    reason = "" if files is None else checkpoint_files.damage(checkpoint, files, weights_only=weights_only)
    return reason or _damaged_json(checkpoint / "trainer_state.json")


def unchecked(checkpoint: Path) -> str:
    """What a whole checkpoint of an earlier release does not hold and is thus not checked; ``""`` for one of this."""
    record = json.loads((checkpoint / FOLDER / ENGINE).read_text(encoding="utf-8"))
    if record["version"] >= VERSION:
        return ""
    return (
        f"{checkpoint} was written by an earlier dataflex-core: it holds no {FILES} and no {KEYS}, so its other "
        "files and the keys of its run are not checked."
    )


def of_later_core(checkpoint: Path) -> str:
    """Why this release cannot know whether a checkpoint is whole: a later one wrote it; ``""`` otherwise."""
    path = checkpoint / FOLDER / ENGINE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    version = record.get("version") if isinstance(record, dict) else None
    if not isinstance(version, int) or version <= VERSION or _mark_damage(path):
        return ""
    return (
        f"it was written by a later dataflex-core ({path} has version {version}, this dataflex-core reads "
        f"{' and '.join(map(str, READ))})"
    )


def run_id_of(checkpoint: Path) -> str:
    """Which run wrote a checkpoint; ``""`` where that is not known: written by an earlier release, or not finished."""
    try:
        record = json.loads((checkpoint / FOLDER / ENGINE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    found = record.get("run_id") if isinstance(record, dict) else None
    return found if isinstance(found, str) else ""


def _mark_damage(engine: Path) -> str:
    """What is wrong with the mark beside ``engine.json``, if it is there."""
    mark = engine.with_name(COMPLETE)
    if not mark.is_file():
        return ""
    promised = mark.read_text(encoding="utf-8", errors="replace")
    if not _DIGEST.fullmatch(promised):
        return f"{mark} is damaged (it holds no sha256 of {ENGINE})"
    if promised != _sha256(engine):
        return f"{engine} is damaged (its sha256 differs from the one in {COMPLETE})"
    return ""


def _own_damage(checkpoint: Path) -> tuple[str, FilesRecord | None]:
    """What is wrong with the engine's files, and the record of the others; ``None`` if an earlier release kept none."""
    folder = checkpoint / FOLDER
    path, mark = folder / ENGINE, folder / COMPLETE
    interrupted = f"{mark} is missing: the run was stopped while it wrote this checkpoint"
    if not path.is_file() and folder.is_dir() and not mark.is_file():
        return interrupted, None
    if not path.is_file():
        return f"{path} is missing (was it written by DataFlex, under this train_type?)", None
    if reason := _mark_damage(path) or of_later_core(checkpoint):
        return reason, None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        head = records.from_fields(_Head, record)
        if head.version not in READ:
            return f"{path} is damaged (it has version {head.version})", None
        needed = [PLAN] if head.version == 1 else [PLAN, FILES]
        missing = [name for name in EngineState.__dataclass_fields__ if name not in record and name not in _LATER]
        missing += [name for name in needed if name not in head.sha256]
        if missing:
            return f"{path} is damaged (it lacks {', '.join(missing)})", None
        if strange := sorted(set(head.sha256) - _HASHED):
            return f"{path} is damaged (it names {strange[0]!r}, which is no file of a checkpoint)", None
        records.from_fields(EngineState, record)
    except (ValueError, RecursionError) as error:
        return f"{path} is damaged ({error})", None
    for name, digest in head.sha256.items():
        file = folder / name
        if not file.is_file():
            return f"{file} is missing", None
        if _sha256(file) != digest:
            return f"{file} is damaged (its sha256 differs from the one in {ENGINE})", None
    if not mark.is_file():
        return interrupted, None
    return _read_files_record(folder) if FILES in head.sha256 else ("", None)


def _read_files_record(folder: Path) -> tuple[str, FilesRecord | None]:
    path = folder / FILES
    try:
        return "", FilesRecord.from_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"{path} is damaged ({error})", None


def _damaged_json(path: Path) -> str:
    """Why the Trainer's own state cannot be read: it would be found out after the model has loaded."""
    try:
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError as error:
        return f"{path} is damaged ({error})"
    return ""


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
