"""The weight files of a checkpoint: which tensors they hold, without reading one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dataflex.errors import ConfigError

if TYPE_CHECKING:
    import torch

MODEL, ADAPTER = "model", "adapter_model"
_PICKLED = {MODEL: "pytorch_model", ADAPTER: ADAPTER}


@dataclass(frozen=True)
class SavedTensor:
    """What a file's header says of one tensor; ``dtype`` is safetensors' word, such as ``BF16``."""

    shape: tuple[int, ...]
    dtype: str
    file: Path


@dataclass(frozen=True)
class SavedWeights:
    """The tensors of one model or adapter in a folder.

    Attributes:
        folder: The checkpoint.
        tensors: What the headers say, by name; empty for a pickled file, which is never opened here.
        size: Bytes of the files.
        pickled: The ``.bin`` file or index there is instead.
    """

    folder: Path
    tensors: Mapping[str, SavedTensor] = field(default_factory=dict)
    size: int = 0
    pickled: Path | None = None

    def read(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each tensor with its name, mapped from the file: only what is looked at is read."""
        from safetensors import safe_open

        by_file: dict[Path, list[str]] = {}
        for name, tensor in self.tensors.items():
            by_file.setdefault(tensor.file, []).append(name)
        for file, names in by_file.items():
            with safe_open(file, framework="pt") as opened:
                for name in names:
                    yield name, opened.get_tensor(name)


def saved_weights(folder: Path, stem: str = MODEL) -> SavedWeights | None:
    """Find a folder's weights, in the order in which the Trainer looks for them.

    Args:
        folder: A checkpoint, or the folder of one adapter in it.
        stem: ``MODEL`` or ``ADAPTER``.

    Returns:
        What the headers say; ``None`` if the folder holds no weights of that kind.

    Raises:
        ConfigError: when a file cannot be read, or one that the index names is not there.
    """
    whole, pickled = folder / f"{stem}.safetensors", folder / f"{_PICKLED[stem]}.bin"
    index, pickled_index = folder / f"{whole.name}.index.json", folder / f"{pickled.name}.index.json"
    if whole.is_file():
        return _headers(folder, [whole])
    if pickled.is_file():
        return SavedWeights(folder, pickled=pickled)
    if index.is_file():
        return _headers(folder, _shards(index))
    return SavedWeights(folder, pickled=pickled_index) if pickled_index.is_file() else None


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index} is no index of weights ({error}). Use another checkpoint.") from error
    shards = [index.parent / str(name) for name in sorted(names)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ConfigError(f"{index} names {missing[0]}, which is not there. Use another checkpoint.")
    return shards


def _headers(folder: Path, files: list[Path]) -> SavedWeights:
    from safetensors import safe_open

    tensors: dict[str, SavedTensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - no mapping: it has no other way to list them
                    header = opened.get_slice(name)
                    tensors[name] = SavedTensor(tuple(header.get_shape()), str(header.get_dtype()), file)
        except Exception as error:  # safetensors has an exception type of its own, which older releases do not export
            raise ConfigError(f"{file} cannot be read: {error}. Use another checkpoint.") from error
    return SavedWeights(folder, tensors, sum(file.stat().st_size for file in files))
