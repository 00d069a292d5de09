"""What a checkpoint keeps of the engine, in ``checkpoint-N/dataflex/``.

    engine.json             schedule, seed, pool, planner, log counters, versions; sha256 of the files below
    plan.npy                the current stage's rows
    component.safetensors   the component's state: tensors and arrays
    component.json          the component's state: everything else
    keys.json               the keys the run was made under
    COMPLETE                sha256 of engine.json; written last, when every rank has written its part of the checkpoint

Files are written to a temporary name, forced to disk and renamed, so a kill leaves the old file or the new one.
No pickle: JSON, ``.npy`` and safetensors only.
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

from dataflex import records
from dataflex.errors import ComponentError, ConfigError
from dataflex.schedule import Schedule

VERSION = 1
FOLDER = "dataflex"
COMPLETE = "COMPLETE"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENGINE, _PLAN, _TENSORS, _VALUES = "engine.json", "plan.npy", "component.safetensors", "component.json"
_KEYS = "keys.json"
_HASHED = frozenset({_PLAN, _TENSORS, _VALUES, _KEYS})


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
    """Everything read from a checkpoint.

    Attributes:
        engine: The engine.
        plan: The plan of its stage.
        component: The component's ``state_dict``.
        keys: The keys the run was made under, JSON values; empty in checkpoints of dataflex-core 0.1.0.
    """

    engine: EngineState
    plan: npt.NDArray[np.int64]
    component: Mapping[str, Any]
    keys: Mapping[str, Any] = field(default_factory=dict)


def save(checkpoint: Path, saved: Saved) -> None:
    """Write the engine's part of a checkpoint.

    Raises:
        ComponentError: if the component's state holds something that is neither a tensor, an array nor JSON.
    """
    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPLETE).unlink(missing_ok=True)
    plan = io.BytesIO()
    np.save(plan, saved.plan, allow_pickle=False)
    files = {_PLAN: plan.getvalue(), **_component_files(saved.component), **_keys_file(saved.keys)}
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
    _component_files(state)


def mark_complete(checkpoint: Path) -> None:
    """Declare a checkpoint whole: call it when every rank has written its files, which are forced to disk first."""
    folder = checkpoint / FOLDER
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    write_atomically(folder / COMPLETE, _sha256(folder / _ENGINE).encode())


def load(checkpoint: Path) -> Saved:
    """Read the engine's part of a checkpoint.

    Raises:
        ConfigError: naming the file that is missing, damaged or of a later version.
    """
    reason = damage(checkpoint)
    if reason:
        raise ConfigError(f"cannot resume from {checkpoint}: {reason}.")
    folder = checkpoint / FOLDER
    record = json.loads((folder / _ENGINE).read_text(encoding="utf-8"))
    state = records.from_fields(EngineState, record)
    files = {name: (folder / name).read_bytes() for name in record["sha256"] if name != _PLAN}
    keys = json.loads(files[_KEYS]) if _KEYS in files else {}
    return Saved(state, np.load(folder / _PLAN, allow_pickle=False), _read_component(files), keys)


def round_trip(component: Mapping[str, Any]) -> Mapping[str, Any]:
    """What becomes of a component's ``state_dict`` on its way through a checkpoint.

    Raises:
        ComponentError: if it holds something that is neither a tensor, an array nor JSON.
    """
    return _read_component(_component_files(component))


def damage(checkpoint: Path) -> str:
    """Why a checkpoint cannot be resumed from; ``""`` if it can. Reads and hashes the engine's files."""
    folder = checkpoint / FOLDER
    path = folder / _ENGINE
    if not path.is_file():
        return f"{path} is missing (was it written by DataFlex, under this train_type?)"
    mark = folder / COMPLETE
    if mark.is_file():
        promised = mark.read_text(encoding="utf-8", errors="replace")
        if not _DIGEST.fullmatch(promised):
            return f"{mark} is damaged (it holds no sha256 of {_ENGINE})"
        if promised != _sha256(path):
            return f"{path} is damaged (its sha256 differs from the one in {COMPLETE})"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        head = records.from_fields(_Head, record)
        if head.version != VERSION:
            return f"{path} has version {head.version}, this dataflex-core reads {VERSION}"
        missing = [name for name in EngineState.__dataclass_fields__ if name not in record]
        if missing or _PLAN not in head.sha256:
            return f"{path} is damaged (it lacks {', '.join(missing) or _PLAN})"
        if strange := sorted(set(head.sha256) - _HASHED):
            return f"{path} is damaged (it names {strange[0]!r}, which is no file of a checkpoint)"
        records.from_fields(EngineState, record)
    except (ValueError, RecursionError) as error:
        return f"{path} is damaged ({error})"
    digests = head.sha256
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file():
            return f"{file} is missing"
        if _sha256(file) != digest:
            return f"{file} is damaged (its sha256 differs from the one in {_ENGINE})"
    if not mark.is_file():
        return f"{mark} is missing: the run was stopped while it wrote this checkpoint"
    return _damaged_json(checkpoint / "trainer_state.json")


def _damaged_json(path: Path) -> str:
    """Why the Trainer's own state cannot be read: it would be found out after the model has loaded."""
    try:
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError as error:
        return f"{path} is damaged ({error})"
    return ""


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


def _component_files(state: Mapping[str, Any]) -> dict[str, bytes]:
    if not state:
        return {}
    import torch
    from safetensors.torch import save as save_tensors

    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, (np.ndarray, np.generic)):
            tensors[name] = torch.from_numpy(np.array(value))
        elif isinstance(value, torch.Tensor):
            tensors[name] = value.detach().cpu().contiguous().clone()
        else:
            values[name] = value
    for name, value in values.items():
        _check_json(name, value)
    arrays = [name for name, value in state.items() if isinstance(value, (np.ndarray, np.generic))]
    text = json.dumps({"values": values, "arrays": arrays})
    return {_TENSORS: save_tensors(tensors), _VALUES: text.encode()}


def _keys_file(keys: Mapping[str, Any]) -> dict[str, bytes]:
    return {_KEYS: json.dumps(keys, indent=1).encode()} if keys else {}


def _check_json(name: str, value: Any) -> None:
    try:
        back = json.loads(json.dumps(value))
    except TypeError as error:
        raise ComponentError(
            f"its state_dict holds something under {name!r} that is neither tensor, array nor JSON: {error}"
        ) from error
    if back != value:
        raise ComponentError(
            f"what its state_dict holds under {name!r} does not come back from JSON as it was: use lists for tuples, "
            "and text for the keys of mappings."
        )


def _read_component(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    if _VALUES not in files:
        return {}
    from safetensors.torch import load as load_tensors

    tensors = load_tensors(files[_TENSORS])
    record = json.loads(files[_VALUES])
    arrays = set(record["arrays"])
    restored = {name: tensor.numpy() if name in arrays else tensor for name, tensor in tensors.items()}
    return {**record["values"], **restored}
