"""Paths as users write them: the one place where ``~`` becomes a home folder. Standard library only.

A run file's paths are expanded when the file is read, those of the command line when they are parsed, so that no
reader behind them, ours or the Trainer's, meets a ``~``. Nothing else about a path changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH_KEYS = frozenset(
    {
        *("model_name_or_path", "adapter_folder", "cache_dir", "new_special_tokens_config", "offload_folder"),
        *("export_dir", "export_quantization_dataset", "kt_weight_path", "kt_expert_checkpoint_path"),
        *("dataset_dir", "media_dir", "image_dir", "tokenized_path"),
        *("output_dir", "logging_dir", "resume_from_checkpoint", "accelerator_config", "fsdp_config", "deepspeed"),
        *("generation_config", "profiler_output_dir", "ray_storage_path"),
        *("ref_model", "reward_model", "swanlab_logdir", "hyper_parallel_args"),
        *("components_cfg_file", "plugins"),
    }
)
"""Keys of a run file, LlamaFactory's and ours, whose value is a path or may be one."""

LISTS_OF_PATHS = frozenset({"adapter_name_or_path", "ref_model_adapters", "reward_model_adapters"})
"""Keys that LlamaFactory splits at commas: each part may be a path."""

_ENDINGS = ("_path", "_dir", "_file", "_folder")


def expand(written: str) -> str:
    """The path with ``~`` or ``~user`` in front replaced by that home folder; anything else as it is written."""
    return os.path.expanduser(written)


def user_path(written: str | Path) -> Path:
    """A path of the command line."""
    return Path(expand(str(written)))


def is_path_name(name: str) -> bool:
    """Whether a parameter is a path by its name: it ends in ``_path``, ``_dir``, ``_file`` or ``_folder``."""
    return name.endswith(_ENDINGS)


def expand_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a run file, or of a part of it, with each path among them expanded.

    A value that is no text, such as the mapping that ``deepspeed`` or ``dataset_dir`` may be, stays as it is.
    """
    return {key: _expanded(key, value) for key, value in keys.items()}


def expand_value(value: Any) -> Any:
    """A path or a list of paths, expanded; anything else as it is."""
    if isinstance(value, str):
        return expand(value)
    if isinstance(value, Path):
        return user_path(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(expand_value, value)) if type(value) in (list, tuple) else value
    return value


def _expanded(key: str, value: Any) -> Any:
    if key in LISTS_OF_PATHS and isinstance(value, str):
        return ",".join(_part(part) for part in value.split(","))
    return expand_value(value) if key in PATH_KEYS or key in LISTS_OF_PATHS else value


def _part(written: str) -> str:
    path = written.lstrip()
    return written[: len(written) - len(path)] + expand(path)
