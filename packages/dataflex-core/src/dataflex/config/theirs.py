"""LlamaFactory's keys in a run file: those it does not know, and values that it would refuse late or not at all."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dataflex.config import legacy
from dataflex.config.gathering import Gathered
from dataflex.config.keys import RUN_KEYS
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean

if TYPE_CHECKING:
    from dataflex.config.run import RunFile

_RENAMED = {
    "group_by_length": " Since transformers 5 it is written train_sampling_strategy: group_by_length.",
    "evaluation_strategy": " It is written eval_strategy now.",
    "no_cuda": " It is written use_cpu now.",
    "use_mps_device": " Leave it out: the device is found by itself.",
    "save_safetensors": " Leave it out: transformers 5 always saves safetensors.",
    "per_gpu_train_batch_size": " It is written per_device_train_batch_size now.",
    "per_gpu_eval_batch_size": " It is written per_device_eval_batch_size now.",
    "adafactor": " It is written optim: adafactor now.",
    "dispatch_batches": " It is written accelerator_config: {dispatch_batches: ...} now.",
    "split_batches": " It is written accelerator_config: {split_batches: ...} now.",
    "include_inputs_for_metrics": " It is written include_for_metrics: [inputs] now.",
    "xpu_backend": " It is written ddp_backend now.",
    "push_to_hub_model_id": " It is written hub_model_id now.",
    "push_to_hub_token": " It is written hub_token now.",
    "fsdp_transformer_layer_cls_to_wrap": " It is written fsdp_config: {transformer_layer_cls_to_wrap: [...]} now.",
    "fsdp_min_num_params": " It is written fsdp_config: {min_num_params: ...} now.",
    "fp16_opt_level": " Leave it out: it belonged to apex.",
    "half_precision_backend": " Leave it out: it belonged to apex.",
    "fp16_backend": " Leave it out: it belonged to apex.",
    "jit_mode_eval": " Leave it out: torch_compile has taken its place.",
    "use_ipex": " Leave it out: PyTorch holds what it brought.",
    "torchdynamo": " It is written torch_compile_backend now.",
}
"""Keys of earlier transformers that the installed one has no more, and what has taken their place."""

PROJECTS = {"doremi": "DoReMi", "regmix": "RegMix", "mixmin": "MixMin"}
"""Sections that make a file a project, and what of; the command that trains it has the section's name."""


def check_known_keys(run: RunFile, known: frozenset[str]) -> None:
    """Refuse keys that neither DataFlex nor LlamaFactory knows.

    Args:
        run: The run file.
        known: LlamaFactory's own keys.
    """
    problems = Gathered()
    problems.errors += unknown_keys(run, known).values()
    problems.refuse()


def unknown_keys(run: RunFile, known: Iterable[str]) -> dict[str, ConfigError]:
    """What to say of each key that neither DataFlex nor LlamaFactory knows.

    Args:
        run: The run file.
        known: LlamaFactory's own keys.
    """
    names = [*(key.name for key in RUN_KEYS), *known]
    return {
        key: ConfigError(f"unknown key {key} (from {run.origin(key)}).{_about(key, value) or did_you_mean(key, names)}")
        for key, value in run.llamafactory.items()
        if key not in names
    }


def _about(key: str, value: Any) -> str:
    if key in PROJECTS:
        what = f"This is a {PROJECTS[key]} project, which `dataflex {key}` trains"
        return f" {what}; `dataflex train` is for a single run."
    return _RENAMED.get(key, "") or legacy.key(key, value)


def check_values(run: RunFile, annotations: Mapping[str, Any]) -> None:
    """Refuse words where LlamaFactory wants a number or one of a few other words: it would find out late.

    Args:
        run: The run file.
        annotations: LlamaFactory's keys with their types; only numbers and literals are looked at.

    Raises:
        ConfigError: names the key, the value and what it may be.
    """
    problems = Gathered()
    problems.errors += wrong_values(run, annotations).values()
    problems.refuse()


def wrong_values(run: RunFile, annotations: Mapping[str, Any]) -> dict[str, ConfigError]:
    """What to say of each key with a word where LlamaFactory wants a number or one of a few other words.

    Args:
        run: The run file.
        annotations: As in :func:`check_values`.
    """
    found = {}
    for key, value in run.llamafactory.items():
        wrong = _wrong(value, _alternatives(annotations.get(key)))
        if wrong:
            found[key] = ConfigError(f"{key}: {value!r} (from {run.origin(key)}) {wrong}")
    return found


def choices_of(annotation: Any) -> list[Any]:
    """The words that a key may be, if its type lists them; ``[]`` for any other."""
    kinds = _alternatives(annotation)
    if len(kinds - {type(None)}) != 1:
        return []
    return [choice for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in kind.__args__]


def _wrong(value: Any, kinds: set[Any]) -> str:
    choices = [choice for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in kind.__args__]
    if choices and len(kinds - {type(None)}) == 1 and value is not None and value not in choices:
        listed = ", ".join(map(str, choices))
        return f"is not one of {listed}.{did_you_mean(str(value), map(str, choices))}"
    numeric = bool(kinds) and kinds <= {int, float, type(None)}
    if not numeric or (value is None and type(None) in kinds):
        return ""
    whole = float not in kinds
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return "must be a whole number." if whole else "must be a number."
    return ""


def _alternatives(annotation: Any) -> set[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set(typing.get_args(annotation))
    return set() if annotation is None else {annotation}


def is_enabled(variable: str, default: str = "0", environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable is on, as LlamaFactory reads its own.

    Args:
        variable: Its name.
        default: What it is taken for where it is not set.
        environ: Where it is looked up.
    """
    return environ.get(variable, default).lower() in ("true", "y", "1")
