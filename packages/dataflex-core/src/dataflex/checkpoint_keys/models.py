"""What tells a model's files from any other's, without reading all of them.

Of the configuration, the whole file counts; of each file of weights its name, its size, its header and 64 places of
4 KiB. The places follow from the size, so the same file is looked at in the same places wherever it lies.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PLACES = 64
PLACE_BYTES = 4096
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
_BESIDE_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"})
_WHERE_NOT_WHAT = ("base_model_name_or_path", "revision")
_MOST_HEADER = 100 << 20


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model or an adapter."""
    return any((folder / name).is_file() for name in (_CONFIG, _ADAPTER))


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that a loader would read from a folder, by name: one format, safetensors first."""
    for pattern in _PATTERNS:
        found = sorted(
            path
            for path in folder.glob(pattern)
            if path.is_file() and path.name not in _BESIDE_WEIGHTS and not path.name.startswith("rng_state")
        )
        if found:
            return found
    return []


def identity(folder: Path) -> str:
    """What tells the model in a folder from any other; where it lies and when it was written do not count.

    Args:
        folder: Of a full model or an adapter.

    Returns:
        A sha256 in hexadecimal digits; ``""`` if there is no model.

    Raises:
        OSError: if a file cannot be read.
    """
    if not is_model(folder):
        return ""
    digest = hashlib.sha256()
    for part in _parts(folder):
        digest.update(part)
    return digest.hexdigest()


def file_identity(file: Path) -> str:
    """What tells a file from any other: the sha256 of its bytes.

    Raises:
        OSError: if it cannot be read.
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _parts(folder: Path) -> Iterator[bytes]:
    config, adapter = folder / _CONFIG, folder / _ADAPTER
    if config.is_file():
        yield b"config " + hashlib.sha256(config.read_bytes()).digest()
    if adapter.is_file():
        yield b"adapter " + hashlib.sha256(_adapter_settings(adapter)).digest()
    for path in weight_files(folder):
        yield f"{path.name} {path.stat().st_size} ".encode()
        with path.open("rb") as file:
            yield from _looked_at(file, path.stat().st_size, path.suffix == ".safetensors")


def _adapter_settings(path: Path) -> bytes:
    """The configuration of an adapter without the place of its base model, which may move."""
    text = path.read_bytes()
    try:
        settings = json.loads(text)
    except ValueError:
        return text
    if not isinstance(settings, dict):
        return text
    kept = {name: value for name, value in settings.items() if name not in _WHERE_NOT_WHAT}
    return json.dumps(kept, sort_keys=True).encode()


def _looked_at(file: BinaryIO, size: int, safetensors: bool) -> Iterator[bytes]:
    """The header of a file of weights and its places; all of a small file."""
    if size <= PLACES * PLACE_BYTES:
        yield file.read(size)
        return
    first = file.read(PLACE_BYTES)
    yield first
    length = 8 + int.from_bytes(first[:8], "little") if safetensors else 0
    if PLACE_BYTES < length <= min(size, _MOST_HEADER):
        yield file.read(length - PLACE_BYTES)
    draw = random.Random(size)  # not to be confused with the run's seed: the places are the file's
    for place in sorted(draw.randrange(size - PLACE_BYTES + 1) for _ in range(PLACES)):
        file.seek(place)
        yield file.read(PLACE_BYTES)
