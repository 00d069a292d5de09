"""Names in a run file: where only a name can stand, and lists of data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dataflex.config.written import Written
from dataflex.errors import ConfigError
from dataflex.paths import LISTS_OF_PATHS, PATH_KEYS

_TEXT = str | None
_NAMES = str | list[str] | None
_MIXED = ("resume_from_checkpoint", "accelerator_config", "fsdp_config", "deepspeed", "generation_config", "plugins")
_TEXTS = (
    *("component_name", "template", "tool_format", "default_system", "run_name", "project", "model_revision"),
    *("hub_model_id", "hub_revision", "export_hub_model_id", "trackio_space_id", "metric_for_best_model"),
    *("swanlab_project", "swanlab_workspace", "swanlab_run_name", "add_tokens", "add_special_tokens"),
    *("lora_target", "oft_target", "additional_target", "freeze_trainable_modules", "freeze_extra_modules"),
)
_WORDS = (
    *("train_type", "mixture_sample_rule", "mixture_unit", "mixture_on_exhausted"),
    *("stage", "finetuning_type", "optim", "lr_scheduler_type", "flash_attn", "pref_loss"),
)  # one of a few words each: an error repeats what was written

NAME_KEYS: Mapping[str, Any] = {
    **dict.fromkeys(("dataset", "eval_dataset", "report_to"), _NAMES),
    **dict.fromkeys((*_TEXTS, *_WORDS), _TEXT),
    **dict.fromkeys(sorted((PATH_KEYS | LISTS_OF_PATHS) - set(_MIXED)), _NAMES),
    "dataset_dir": str | dict[str, Any] | None,
    "init_mixture_proportions": dict[str, float] | list[float] | None,
    "mixture_max_epochs": float | dict[str, float] | None,
}
"""What the keys of a run file are in which a word can only be a name, or a text."""

DATA_SETS = ("dataset", "eval_dataset")
"""Keys that list data sets."""

_WEIGH_MORE = {
    "dataset": "Name it once. To train on it more often, give it a larger share of init_mixture_proportions "
    "(train_type: dynamic_mix or static_mix), or list its file under a second name in dataset_info.json.",
    "eval_dataset": "Name it once. To let it count more, list its file under a second name in dataset_info.json.",
}


def listed(given: Any) -> list[str]:
    """The names in a list, or in a text that separates them by commas, as LlamaFactory reads them."""
    if isinstance(given, str):
        return [name.strip() for name in given.split(",")]
    if isinstance(given, (list, tuple)):
        return [str(name).strip() for name in given]
    return [] if given is None else [str(given)]


def repeated(names: list[str]) -> list[str]:
    """Those that stand more than once, in order."""
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def repeats(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Data sets that a run names more than once: the key, what is wrong, and how to give one more weight."""
    for key in DATA_SETS:
        twice = repeated(listed(arguments.get(key)))
        if twice:
            yield (
                key,
                f"names {', '.join(twice)} more than once, but LlamaFactory keeps data sets by name, so each counts "
                "once.",
                _WEIGH_MORE[key],
            )


def take_names(keys: Mapping[str, Any], written: Written) -> tuple[dict[str, Any], dict[str, ConfigError]]:
    """The keys of a run file, with names as they were written where YAML took them for something else.

    Args:
        keys: As YAML read them.
        written: The texts.

    Returns:
        The keys; and what to say of those with something in a name's place that has no text, and stays as it is.
    """
    found, wrong = dict(keys), {}
    for key, kind in NAME_KEYS.items():
        if key in keys:
            try:
                found[key] = written.take_names(keys[key], kind, key)
            except ConfigError as error:
                wrong[key] = error
    return found, wrong
