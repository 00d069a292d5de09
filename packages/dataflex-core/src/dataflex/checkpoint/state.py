"""Write a checkpoint's part of the engine, and read it again; :mod:`.engine_state` draws its files.

All of it is written when every rank has written its part of the checkpoint. Files are written to a temporary name,
forced to disk and renamed, so a kill leaves the old file or the new one. No pickle: JSON, ``.npy`` and safetensors
only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint import component as component_state
from dataflex.checkpoint import files as checkpoint_files
from dataflex.checkpoint.damage import why_damaged
from dataflex.checkpoint.engine_state import (
    COMPLETE,
    ENGINE,
    FILES,
    FOLDER,
    KEYS,
    PLAN,
    VERSION,
    WEIGHTS,
    EngineState,
    Saved,
)
from dataflex.errors import ConfigError
from dataflex.record import fields as records
from dataflex.record.files import write_atomically

__all__ = [
    "COMPLETE",
    "FOLDER",
    "EngineState",
    "Saved",
    "begin",
    "check_component",
    "load",
    "mark_complete",
    "round_trip",
    "save",
    "write_atomically",
]


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
    files = {PLAN: _to_npy(saved.plan), **component_state.to_files(saved.component)}
    if saved.weights is not None:
        files[WEIGHTS] = _to_npy(saved.weights)
    else:
        (folder / WEIGHTS).unlink(missing_ok=True)  # of an abandoned checkpoint
    if saved.keys:
        files[KEYS] = json.dumps(dict(saved.keys), indent=1).encode()
    files[FILES] = checkpoint_files.take(checkpoint, but=FOLDER, ranks=ranks).to_json()
    for name, data in files.items():
        write_atomically(folder / name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = {"version": VERSION, **asdict(saved.engine), "sha256": digests}
    write_atomically(folder / ENGINE, json.dumps(record, indent=1).encode())


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
    write_atomically(folder / COMPLETE, hashlib.sha256((folder / ENGINE).read_bytes()).hexdigest().encode())


def load(checkpoint: Path, *, weights_only: bool = False) -> Saved:
    """Read the engine's part of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        weights_only: As for :func:`~dataflex.checkpoint.damage.why_damaged`.

    Raises:
        ConfigError: naming the file that is missing, damaged or of a later version.
    """
    reason = why_damaged(checkpoint, weights_only=weights_only)
    if reason:
        raise ConfigError(f"cannot resume from {checkpoint}: {reason}.")
    folder = checkpoint / FOLDER
    record = json.loads((folder / ENGINE).read_text(encoding="utf-8"))
    state = records.from_fields(EngineState, record)
    files = {name: (folder / name).read_bytes() for name in record["sha256"] if name not in (PLAN, WEIGHTS)}
    weights = np.load(folder / WEIGHTS, allow_pickle=False) if WEIGHTS in record["sha256"] else None
    keys = json.loads(files[KEYS]) if KEYS in files else {}
    return Saved(state, np.load(folder / PLAN, allow_pickle=False), component_state.from_files(files), keys, weights)


def round_trip(component: Mapping[str, Any]) -> Mapping[str, Any]:
    """What becomes of a component's ``state_dict`` on its way through a checkpoint.

    Raises:
        ComponentError: if it holds something that is neither a tensor, an array nor JSON.
    """
    return component_state.from_files(component_state.to_files(component))


def _to_npy(array: npt.NDArray[Any]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()
