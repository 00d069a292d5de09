"""Which keys of a phase may change once it has begun: those that its result does not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

_FREE = (
    # what is said and shown
    "logging_*",
    "log_*",
    "report_to",
    "run_name",
    "disable_tqdm",
    "plot_loss",
    "include_num_input_tokens_seen",
    "push_to_hub*",
    "hub_*",
    "*_hub_token",
    "project",
    "trackio_*",
    "use_swanlab",
    "swanlab_*",
    # what is kept, and how often
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "save_on_each_node",
    # how rows reach the model
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "preprocessing_num_workers",
    "preprocessing_batch_size",
    "overwrite_cache",
    "cache_dir",
    "ddp_timeout",
)
_FREE_PARAMS = ("cache_dir", "token_budget")


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys that decide the result and whose values differ, each with both values."""
    then, here = _deciding(before), _deciding(now)
    return [
        f"{name} was {then.get(name)!r} and is now {here.get(name)!r}"
        for name in sorted(then.keys() | here.keys())
        if then.get(name) != here.get(name)
    ]


def _deciding(keys: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in keys.items() if not any(fnmatch(name, pattern) for pattern in _FREE)}
    if isinstance(kept.get("component_params"), Mapping):
        kept["component_params"] = {
            name: value for name, value in kept["component_params"].items() if name not in _FREE_PARAMS
        }
    return kept
