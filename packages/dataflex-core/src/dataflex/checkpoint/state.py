"""What a checkpoint keeps of the engine, in ``checkpoint-N/dataflex/``.

    plan.npy                the current stage's rows
    plan_weights.npy        their weights, if they have any
    component.safetensors   the component's state: tensors and arrays
    component.json          the component's state: everything else
    keys.json               the keys the run was made under, if they were recorded
    files.json              every file of the checkpoint outside this folder: see checkpoint_files
    engine.json             schedule, seed, pool, planner, log counters, versions; sha256 of the files above
    COMPLETE                sha256 of engine.json; written last

All of it is written when every rank has written its part of the checkpoint. Files are written to a temporary name,
forced to disk and renamed, so a kill leaves the old file or the new one. No pickle: JSON, ``.npy`` and safetensors
only. Version 1 of engine.json, of earlier releases, has neither keys.json nor files.json; it is read as well.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint import component as component_state
from dataflex.checkpoint import files as checkpoint_files
from dataflex.checkpoint.files import FilesRecord
from dataflex.errors import ConfigError
from dataflex.record import fields as records
from dataflex.schedule import Schedule

VERSION = 2
READ = (1, 2)
"""Versions of engine.json that this release reads."""

FOLDER = "dataflex"
COMPLETE = "COMPLETE"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENGINE, _PLAN, _KEYS, _FILES = "engine.json", "plan.npy", "keys.json", "files.json"
_WEIGHTS = "plan_weights.npy"
_LATER = frozenset({"data_seed", "run_id"})  # fields that an engine.json of an earlier release has not
_HASHED = frozenset({_PLAN, _WEIGHTS, component_state.TENSORS, component_state.VALUES, _KEYS, _FILES})


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """The engine at an optimizer step.

    Attributes:
        step: Optimizer steps done.
        stage: Stage whose plan was last made; -1 before the first.
        plan_start: Optimizer step of the plan's first sample.
        warmup: Schedule: steps before the first boundary.
        update: Schedule: steps between boundaries.
        total: Schedule: steps of the run.
        seed: The run's seed.
        global_batch: Samples per optimizer step over all ranks.
        pool_size: Samples of the training pool.
        pool_fingerprint: Content fingerprint of the pool.
        domains: Names of the domains of a mix run, in the order of the proportions.
        component: Kind and name of the component.
        planner: The planner's own state, JSON values.
        log: Counters of the Trainer's log that a stock resume would lose, JSON values.
        params: Parameters of the component, JSON values.
        versions: Versions of core and of the component's distribution, for the record.
        run_id: What tells the run from others: made when a run starts anew, kept through resumes; ``""`` in a
            checkpoint of before there was one.
        data_seed: The seed that rows are drawn by; ``None`` if the run that wrote it drew them by ``seed``, always.
    """

    step: int
    stage: int
    plan_start: int
    warmup: int
    update: int
    total: int
    seed: int
    global_batch: int
    pool_size: int
    pool_fingerprint: str
    component: str
    domains: Sequence[str] = ()
    planner: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    data_seed: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("step", 0), ("stage", -1), ("plan_start", 0), ("pool_size", 0), ("global_batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name!r} is {getattr(self, name)}, below {least}")
        Schedule(self.warmup, self.update, self.total)


@dataclass(frozen=True)
class _Head:
    """What of ``engine.json`` is not the engine's."""

    version: int
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class Saved:
    """Everything of ours in a checkpoint.

    Attributes:
        engine: The engine.
        plan: The plan of its stage.
        component: The component's ``state_dict``.
        keys: The keys the run was made under, JSON values; empty if they were not recorded.
        weights: Of the plan's rows in the loss; ``None`` for the stock loss.
    """

    engine: EngineState
    plan: npt.NDArray[np.int64]
    component: Mapping[str, Any]
    keys: Mapping[str, Any] = field(default_factory=dict)
    weights: npt.NDArray[np.float64] | None = None


def begin(checkpoint: Path) -> None:
    """Begin a checkpoint: call it before anything is written into its folder, which may hold an abandoned one."""
    folder = checkpoint / FOLDER
    (folder / COMPLETE).unlink(missing_ok=True)
    checkpoint_files.clear(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)  # so that one without engine.json is known to be unfinished


def save(checkpoint: Path, saved: Saved, *, ranks: int = 1) -> None:
    """Write the engine's part of a checkpoint: call it when every rank has written its files.

    Args:
        checkpoint: The checkpoint.
        saved: What to keep.
        ranks: Number of processes that wrote the other files.

    Raises:
        ComponentError: if the component's state holds something that is neither a tensor, an array nor JSON.
    """
    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPLETE).unlink(missing_ok=True)
    files = {_PLAN: _to_npy(saved.plan), **component_state.to_files(saved.component)}
    if saved.weights is not None:
        files[_WEIGHTS] = _to_npy(saved.weights)
    else:
        (folder / _WEIGHTS).unlink(missing_ok=True)  # of an abandoned checkpoint
    if saved.keys:
        files[_KEYS] = json.dumps(dict(saved.keys), indent=1).encode()
    files[_FILES] = checkpoint_files.take(checkpoint, but=FOLDER, ranks=ranks).to_json()
    for name, data in files.items():
        write_atomically(folder / name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = {"version": VERSION, **asdict(saved.engine), "sha256": digests}
    write_atomically(folder / _ENGINE, json.dumps(record, indent=1).encode())


def check_component(state: Mapping[str, Any]) -> None:
    """Check that a component's state can be saved and comes back as it is.

    Raises:
        ComponentError: names what cannot.
    """
    component_state.to_files(state)


def mark_complete(checkpoint: Path) -> None:
    """Declare a checkpoint whole, after :func:`save`; its files are forced to disk first."""
    folder = checkpoint / FOLDER
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    write_atomically(folder / COMPLETE, _sha256(folder / _ENGINE).encode())


def load(checkpoint: Path, *, weights_only: bool = False) -> Saved:
    """Read the engine's part of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        weights_only: As for :func:`damage`.

    Raises:
        ConfigError: naming the file that is missing, damaged or of a later version.
    """
    reason = damage(checkpoint, weights_only=weights_only)
    if reason:
        raise ConfigError(f"cannot resume from {checkpoint}: {reason}.")
    folder = checkpoint / FOLDER
    record = json.loads((folder / _ENGINE).read_text(encoding="utf-8"))
    state = records.from_fields(EngineState, record)
    files = {name: (folder / name).read_bytes() for name in record["sha256"] if name not in (_PLAN, _WEIGHTS)}
    weights = np.load(folder / _WEIGHTS, allow_pickle=False) if _WEIGHTS in record["sha256"] else None
    keys = json.loads(files[_KEYS]) if _KEYS in files else {}
    return Saved(state, np.load(folder / _PLAN, allow_pickle=False), component_state.from_files(files), keys, weights)


def round_trip(component: Mapping[str, Any]) -> Mapping[str, Any]:
    """What becomes of a component's ``state_dict`` on its way through a checkpoint.

    Raises:
        ComponentError: if it holds something that is neither a tensor, an array nor JSON.
    """
    return component_state.from_files(component_state.to_files(component))


def damage(checkpoint: Path, *, weights_only: bool = False) -> str:
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
    record = json.loads((checkpoint / FOLDER / _ENGINE).read_text(encoding="utf-8"))
    if record["version"] >= VERSION:
        return ""
    return (
        f"{checkpoint} was written by an earlier dataflex-core: it holds no {_FILES} and no {_KEYS}, so its other "
        "files and the keys of its run are not checked."
    )


def of_later_core(checkpoint: Path) -> str:
    """Why this release cannot know whether a checkpoint is whole: a later one wrote it; ``""`` otherwise."""
    path = checkpoint / FOLDER / _ENGINE
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
        record = json.loads((checkpoint / FOLDER / _ENGINE).read_text(encoding="utf-8"))
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
        return f"{mark} is damaged (it holds no sha256 of {_ENGINE})"
    if promised != _sha256(engine):
        return f"{engine} is damaged (its sha256 differs from the one in {COMPLETE})"
    return ""


def _own_damage(checkpoint: Path) -> tuple[str, FilesRecord | None]:
    """What is wrong with the engine's files, and the record of the others; ``None`` if an earlier release kept none."""
    folder = checkpoint / FOLDER
    path, mark = folder / _ENGINE, folder / COMPLETE
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
        needed = [_PLAN] if head.version == 1 else [_PLAN, _FILES]
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
            return f"{file} is damaged (its sha256 differs from the one in {_ENGINE})", None
    if not mark.is_file():
        return interrupted, None
    return _read_files_record(folder) if _FILES in head.sha256 else ("", None)


def _read_files_record(folder: Path) -> tuple[str, FilesRecord | None]:
    path = folder / _FILES
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


def _to_npy(array: npt.NDArray[Any]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a kill at any moment leaves a whole file, the old one or the new."""
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
