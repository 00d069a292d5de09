"""The metrics an evaluation will have, from the keys of a run alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.paths import user_path

Arguments = Mapping[str, Any]

PREFIX = "eval_"
SPEED = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
"""What every evaluation measures of itself."""

_NO_SPLIT = 1e-6  # LlamaFactory's own threshold for val_size
_MOST_NAMES = 12
_GENERATED = ("rouge-1", "rouge-2", "rouge-l", "bleu-4")
_SPLITS = tuple(f"{what}/{split}" for what in ("rewards", "logps", "logits") for split in ("chosen", "rejected"))
_OF_STAGE: Mapping[str, Sequence[str]] = {
    "dpo": (*_SPLITS, "rewards/accuracies", "rewards/margins"),
    "kto": (*_SPLITS, "rewards/margins"),
}
"""What a stage's Trainer adds to the metrics by itself, without the name of the eval set."""

_ORPO = ("sft_loss", "odds_ratio_loss")
_STAGES = ("pt", "sft", "rm", *_OF_STAGE)


def metric_names(arguments: Arguments) -> tuple[str, ...] | None:
    """The metrics an evaluation of a run will have, times and speeds left out.

    Args:
        arguments: LlamaFactory's own keys.

    Returns:
        Their names, beginning with ``eval_``; ``None`` where keys do not tell.
    """
    sets, stage = eval_sets(arguments), str(arguments.get("stage", "sft"))
    if sets is None or stage not in _STAGES:
        return None
    measured: tuple[str, ...] = ("loss",)
    predicts = not arguments.get("prediction_loss_only")
    if stage == "sft" and arguments.get("predict_with_generate"):
        measured = _GENERATED if predicts else ()  # it generates, and so computes no loss
    elif predicts and (stage == "rm" or (stage == "sft" and arguments.get("compute_accuracy"))):
        measured = ("loss", "accuracy")
    by_set = [f"{prefix}{name}" for prefix in prefixes(sets) for name in measured]
    return (*by_set, *(f"{PREFIX}{name}" for name in added_by_stage(arguments)))


def added_by_stage(arguments: Arguments) -> tuple[str, ...]:
    """What the stage's Trainer adds to the metrics, whatever the eval set is called."""
    stage = str(arguments.get("stage", "sft"))
    orpo = _ORPO if stage == "dpo" and arguments.get("pref_loss") == "orpo" else ()
    return (*_OF_STAGE.get(stage, ()), *orpo)


def prefixes(sets: Sequence[str]) -> list[str]:
    """What the metrics of each eval set begin with; that of all together, if they are measured as one."""
    return [f"{PREFIX}{name}_" for name in sets] or [PREFIX]


def eval_sets(arguments: Arguments) -> tuple[str, ...] | None:
    """Names of the eval sets that are measured apart; empty where all are one; ``None`` where keys do not tell."""
    splits = _tokenized_splits(arguments)
    if splits is None or splits:
        return None if splits is None else tuple(name for name in splits if name)
    return _names(arguments.get("eval_dataset")) if arguments.get("eval_on_each_dataset") else ()


def lacks_eval_set(arguments: Arguments) -> str:
    """Why there will be no eval set; ``""`` if there will be one, or keys do not tell."""
    share = arguments.get("val_size") or 0
    if not _names(arguments.get("eval_dataset")) and (not isinstance(share, (int, float)) or share < _NO_SPLIT):
        return "there is no eval set"
    splits = _tokenized_splits(arguments, ("train",))
    if splits and not any(name != "train" for name in splits):
        return f"tokenized_path: {arguments['tokenized_path']} holds none"
    return ""


def _tokenized_splits(arguments: Arguments, keep: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Eval sets in a ``tokenized_path`` that exists, from which LlamaFactory then takes them.

    Returns:
        Their names, ``""`` for one without a name; empty without such a folder; ``None`` where it cannot be read.
    """
    given = arguments.get("tokenized_path")
    if not isinstance(given, str) or not given:
        return ()
    folder = user_path(given)
    try:
        if "://" in given or not folder.is_dir() or not any(folder.iterdir()):
            return None if "://" in given else ()
        record = next(path for path in (folder / "dataset_dict.json", folder / "eval" / "dataset_dict.json")
                      if path.is_file())  # fmt: skip
        splits = json.loads(record.read_text(encoding="utf-8"))["splits"]
        evals = [name.removeprefix("validation").removeprefix("_") for name in splits if name.startswith("validation")]
        return (*evals, *(name for name in splits if name in keep))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def _names(given: Any) -> tuple[str, ...]:
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)):
        return ()
    return tuple(dict.fromkeys(str(name).strip() for name in listed))


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first dozen of them."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
