"""What a checkpoint keeps of the engine: ``checkpoint-N/dataflex/engine.json`` and ``plan.npy``.

Files are written to a temporary name, forced to disk and renamed, so a kill leaves the old file or the new one.
No pickle: JSON and ``.npy`` only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError

VERSION = 1
FOLDER = "dataflex"
_ENGINE, _PLAN = "engine.json", "plan.npy"


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """The engine at an optimizer step.

    Attributes:
        step: Optimizer steps done.
        stage: Stage whose plan was last made; -1 before the first.
        plan_start: Optimizer step of the plan's first sample.
        warmup, update, total: The schedule.
        seed: The run's seed.
        global_batch: Samples per optimizer step over all ranks.
        pool_size: Samples of the training pool.
        pool_fingerprint: Content fingerprint of the pool.
        component: ``dist/name`` of the component.
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


def save(checkpoint: Path, state: EngineState, plan: npt.NDArray[np.int64]) -> None:
    """Write the engine's part of a checkpoint; ``plan`` is the current stage's, over all ranks."""
    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, plan, allow_pickle=False)
    write_atomically(folder / _PLAN, buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    record = {"version": VERSION, **asdict(state), "sha256": {_PLAN: digest}}
    write_atomically(folder / _ENGINE, json.dumps(record, indent=1).encode())


def load(checkpoint: Path) -> tuple[EngineState, npt.NDArray[np.int64]]:
    """Read the engine's part of a checkpoint.

    Raises:
        ConfigError: naming the file that is missing, damaged or of a later version.
    """
    folder = checkpoint / FOLDER
    try:
        record = json.loads((folder / _ENGINE).read_text(encoding="utf-8"))
        version, digests = record.pop("version"), record.pop("sha256")
        if version != VERSION:
            raise ConfigError(f"{folder / _ENGINE} has version {version}; this dataflex-core reads {VERSION}.")
        state = EngineState(**record)
        raw = (folder / _PLAN).read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"cannot resume from {checkpoint}: {error.filename} is missing. Was it written by DataFlex, by this "
            "train_type? Resume from another checkpoint, or start anew in another output_dir."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"cannot resume from {checkpoint}: {folder / _ENGINE} is damaged ({error}).") from error
    if hashlib.sha256(raw).hexdigest() != digests.get(_PLAN):
        raise ConfigError(f"cannot resume from {checkpoint}: {folder / _PLAN} is damaged (its sha256 differs).")
    return state, np.load(io.BytesIO(raw), allow_pickle=False)


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a kill at any moment leaves a whole file, the old one or the new."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
