"""What the Trainer wrote into a checkpoint: every file outside ``dataflex/``, and what of it a resume needs.

    files.json   {"ranks": 2, "files": {"optimizer.pt": {"size": 1234, "sha256": "..."}, ...}}

The record is made from what lies there once every rank has written, so which files a checkpoint must have follows from
the run that saved it, never from the one that resumes. A file that is added later is none of them. Standard library
only.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from dataflex.record import fields as records

MOST_HASHED = 2**20
"""Bytes of the largest file whose content is hashed; of larger ones only the size is kept."""

_WEIGHTS = (
    r"(?:[^/]+/)?adapter_model\.(?:safetensors|bin)",  # PEFT; further adapters lie in folders of their own
    r"(?:model|pytorch_model)[^/]*\.(?:safetensors|bin)(?:\.index\.json)?",
    r"pytorch_model_fsdp[^/]*/.+",  # FSDP, SHARDED_STATE_DICT
    r"(?:value_head|v_head)\.(?:safetensors|bin)",
    r"global_step\d+/.+",  # DeepSpeed: weights and optimizer state together
    r"latest",
)
_DEEPSPEED = re.compile(r"global_step\d+/.+")
_OPTIMIZER = re.compile(r"(?:rank\d+-of-\d+-)?optimizer(?:\.pt|\.bin|\.pt_[^/]*|[^/]*/.+)")
_RANDOM_STATE = re.compile(r"rng_state(?:_\d+)?\.pth")
_SCHEDULE, _TRAINER = "scheduler.pt", "trainer_state.json"


@dataclass(frozen=True)
class FileRecord:
    """One file as it was written.

    Attributes:
        size: Bytes.
        sha256: Of its content; ``None`` above :data:`MOST_HASHED`.
    """

    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class FilesRecord:
    """The files of a checkpoint outside ``dataflex/``.

    Attributes:
        ranks: Number of processes that wrote it.
        files: Each file, by its path in the checkpoint.
    """

    ranks: int
    files: Mapping[str, FileRecord] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The record as it stands in ``files.json``."""
        files = {
            name: {key: value for key, value in asdict(file).items() if value is not None}
            for name, file in self.files.items()
        }
        return json.dumps({"ranks": self.ranks, "files": files}, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> FilesRecord:
        """Read a record.

        Raises:
            ValueError: when it is none, or names a file outside the checkpoint.
        """
        record = records.from_fields(cls, json.loads(text))
        for name in record.files:
            path = PurePosixPath(name)
            if not name or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"it names {name!r}, which is no file of a checkpoint")
        return record


def take(checkpoint: Path, *, but: str, ranks: int) -> FilesRecord:
    """Make the record of a checkpoint that every rank has written its part of.

    Args:
        checkpoint: The checkpoint.
        but: Name of the folder that is left out.
        ranks: Number of processes of the run.
    """
    found = {}
    for name in sorted(_names(checkpoint)):
        path = checkpoint / name
        if PurePosixPath(name).parts[0] != but:
            size = path.stat().st_size
            found[name] = FileRecord(size, _sha256(path) if size <= MOST_HASHED else None)
    return FilesRecord(ranks, found)


def damage(checkpoint: Path, record: FilesRecord, *, weights_only: bool = False) -> str:
    """What is wrong with the first file that is not as it was written; ``""`` if all are.

    Args:
        checkpoint: The checkpoint.
        record: What was written.
        weights_only: Whether only the weights are needed: another file may then be gone. One that is there must be as
            it was, for the Trainer loads what it finds.
    """
    for name, written in record.files.items():
        path = checkpoint / name
        if not path.is_file():
            if weights_only and not is_weights(name):
                continue
            return f"{path} is missing"
        size = path.stat().st_size
        if size != written.size:
            return f"{path} is damaged (it has {size:,} bytes of {written.size:,})"
        if written.sha256 is not None and _sha256(path) != written.sha256:
            return f"{path} is damaged (its sha256 differs from the one in files.json)"
    return ""


def is_weights(name: str) -> bool:
    """Whether a file of a checkpoint, by its path in it, holds weights."""
    return any(re.fullmatch(pattern, name) for pattern in _WEIGHTS)


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds a model, an adapter or DeepSpeed's state of one, apart from those in checkpoints."""
    return any(is_weights(name) for name in _names(folder) if not re.match(r"checkpoint-\d+/", name))


def lacking(checkpoint: Path, *, but: str) -> str:
    """What an exact resume needs and a checkpoint does not hold; ``""`` if it holds everything.

    It is told by the files that are there, whoever wrote them. Of a checkpoint without any nothing can be told.

    Args:
        checkpoint: The checkpoint.
        but: Name of the folder that does not count.
    """
    names = [name for name in _names(checkpoint) if PurePosixPath(name).parts[0] != but]
    if not names:
        return ""
    deepspeed = _any(_DEEPSPEED, names)
    held = {
        "weights": any(map(is_weights, names)),
        "optimizer state": deepspeed or _any(_OPTIMIZER, names),
        "learning-rate schedule": deepspeed or _SCHEDULE in names,
        "random state": _any(_RANDOM_STATE, names),
        _TRAINER: _TRAINER in names,
    }
    return ", ".join(what for what, there in held.items() if not there)


def clear(checkpoint: Path) -> None:
    """Delete what an abandoned run left in the folder of a checkpoint that is about to be written anew.

    A file that is not written again, such as ``optimizer.pt`` under ``save_only_model``, would pass for one of the new
    checkpoint.
    """
    for path in checkpoint.iterdir() if checkpoint.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _names(checkpoint: Path) -> list[str]:
    """Paths of the files in a checkpoint; a folder that was moved away and linked back is still a part of it."""
    found = glob.iglob("**", root_dir=checkpoint, recursive=True, include_hidden=True)
    return [Path(name).as_posix() for name in found if (checkpoint / name).is_file()]


def _any(pattern: re.Pattern[str], names: Iterable[str]) -> bool:
    return any(pattern.fullmatch(name) for name in names)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
