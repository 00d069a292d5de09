"""What is said of a run file and hinders no run: keys without effect, what its checkpoints will lack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataflex import resumable, sharding
from dataflex.config import evaluation, names, old_orders, together, too_short
from dataflex.config.gathering import Gathered
from dataflex.config.numbers import whole_of
from dataflex.config.run import RunFile
from dataflex.kinds import KINDS, Kind, StepKeys
from dataflex.runs import Steps, TrainType

COUNTS_WHOLE_POOL = "include_effective_tokens_per_second"
"""LlamaFactory's key for a metric that is wrong when only a part of the data set is trained on."""

_IGNORED = ("disable_shuffling", "group_by_length", "dataloader_drop_last")
"""Keys of the stock loader that choose rows or their order, which the plan of a selector or mixer replaces."""

_THE_PLANS = "the order of the samples is the plan's"
_WHY_IGNORED = {"dataloader_drop_last": "every step of a plan is full"}
_SAMPLING = "train_sampling_strategy"  # the name that transformers 5 gave group_by_length and its siblings
_IGNORED_LOADER = {"even_batches": True, "use_seedable_sampler": True}  # of accelerator_config, with their defaults
_MIXED_BY_LLAMAFACTORY = ("mix_strategy", "interleave_probs")


def warnings(run: RunFile, *, scores_only: bool = False) -> Iterator[str]:
    """Settings that do nothing, or probably not what was meant.

    Args:
        run: The run file.
        scores_only: Whether the pool will only be scored.
    """
    yield from evaluation.warnings(run.llamafactory, run.origin)
    total = too_short.planned_steps(_steps_of(run), run.llamafactory)
    if total is not None and not scores_only:
        yield from too_short.warnings(run.llamafactory, run.origin, total)
    if run.train_type is TrainType.STATIC:
        ignored = [key for key in run.ours if key != "train_type"]
        if ignored:
            yield f"train_type is static, so these keys of {run.path.name} are ignored: {', '.join(ignored)}."
        for key, what, fix in names.repeats(run.llamafactory):
            yield f"{key} (from {run.origin(key)}) {what} {fix}"
        return
    if "warmup_steps" in run.llamafactory and "warmup_step" not in run.ours:
        yield (
            "warmup_steps warms up the learning rate; the steps before the first boundary are warmup_step, without s."
        )
    steps, kinds = run.step_keys, run.kinds
    if steps is StepKeys.PASSES:
        yield from _passes_warnings(run)
    if steps is not StepKeys.EVERY_STEP:
        for key in _IGNORED:
            if run.llamafactory.get(key):
                yield f"{key} has no effect: {_WHY_IGNORED.get(key, _THE_PLANS)}."
        yield from _loader_warnings(run.llamafactory)
    if run.llamafactory.get(COUNTS_WHOLE_POOL):
        yield f"{COUNTS_WHOLE_POOL} would count the whole data set, not what was trained on: left out."
    if any(KINDS[kind].mixes for kind in kinds):
        for key in _MIXED_BY_LLAMAFACTORY:
            if key in run.llamafactory:
                yield f"{key} has no effect: the domains are mixed by mixture_sample_rule and the mixer."
    if steps is StepKeys.ONE_STAGE and "component_name" in run.ours:
        yield "component_name is ignored: static_mix keeps its proportions; dynamic_mix moves them with a mixer."
    if steps is StepKeys.EVERY_STEP:
        yield from _every_step_warnings(run, kinds[0])
    yield from together.warnings(run)
    if "num_train_epochs" in run.llamafactory and not _counts_epochs(run):
        yield "num_train_epochs is ignored: the number of steps follows from the step keys."


def checkpoint_warnings(run: RunFile) -> Iterator[str]:
    """What a run that trains will not get from its checkpoints, or at its end: said at its start, and by check-run."""
    if run.train_type is TrainType.STATIC:
        yield from resumable.fsdp_warning(run.llamafactory, os.environ, run.path.name)
        yield from _left_there(run)
    else:
        yield from resumable.warnings(run.llamafactory, run.path.name)
        yield from sharding.warnings(run.llamafactory, os.environ, run.path.name)


def _left_there(run: RunFile) -> Iterator[str]:
    """Checkpoints of an earlier run where a static one begins anew: only a dynamic run puts them aside."""
    output_dir = run.llamafactory.get("output_dir")
    if not run.llamafactory.get("overwrite_output_dir") or not isinstance(output_dir, str):
        return
    if found := sorted(path.name for path in Path(output_dir).glob("checkpoint-*") if path.is_dir()):
        yield (
            f"output_dir: {output_dir} (from {run.origin('output_dir')}) holds checkpoints of an earlier run "
            f"({', '.join(found[:3])}{', ...' if len(found) > 3 else ''}), and this static run begins anew beside "
            "them: a later command goes on from the one of the highest number, whichever run wrote it. Move them away."
        )


def _loader_warnings(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Settings of the stock loader that a plan leaves without effect."""
    if arguments.get(_SAMPLING) not in (None, "random"):
        yield f"{_SAMPLING}: {arguments[_SAMPLING]} has no effect: {_THE_PLANS}."
    given = arguments.get("accelerator_config")
    for key, default in _IGNORED_LOADER.items():
        if isinstance(given, Mapping) and given.get(key, default) is not default:
            yield f"accelerator_config.{key} has no effect: {_THE_PLANS}."


def _every_step_warnings(run: RunFile, kind: Kind) -> Iterator[str]:
    unread = [key for key in ("update_step", "update_times") if key in run.ours]
    if unread:
        yield f"{' and '.join(unread)} ignored: {kind.with_article} acts on every step past warmup_step."
    yield from _other_length(run, run.steps())


def _passes_warnings(run: RunFile) -> Iterator[str]:
    steps = run.steps()
    total = steps.warmup + steps.update * steps.times if steps.update and steps.times > 0 else None
    yield from old_orders.notes(str(run.ours.get("train_type")), steps.train or total)
    yield from _other_length(run, steps)


def _other_length(run: RunFile, steps: Steps) -> Iterator[str]:
    most = whole_of(run.llamafactory, "max_steps")
    if steps.train > 0 and most not in (-1, steps.train):
        yield f"max_steps={most} is ignored: train_step={steps.train} is the length of the run."


def _counts_epochs(run: RunFile) -> bool:
    if run.step_keys is StepKeys.BOUNDARIES:
        return run.ours.get("update_times") == -1
    steps = run.steps()
    return steps.train == 0 and whole_of(run.llamafactory, "max_steps") <= 0


def _steps_of(run: RunFile) -> Steps | None:
    """The step keys; ``None`` for a static run, and for keys that are refused anyway."""
    wrong = Gathered()
    steps = None if run.train_type is TrainType.STATIC else run.steps_or_least(wrong)
    return None if wrong else steps
