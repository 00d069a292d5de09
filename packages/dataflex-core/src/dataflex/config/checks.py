"""What can be known to be impossible from the run file alone, before anything loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dataflex import sharding
from dataflex.config import evaluation, names
from dataflex.config.needs import needs, needs_of
from dataflex.config.numbers import whole_of
from dataflex.config.run import MOST_STEPS, RunFile
from dataflex.config.stages import NO_STAGE, STAGES
from dataflex.config.theirs import is_enabled
from dataflex.kinds import StepKeys
from dataflex.paths import LISTS_OF_PATHS
from dataflex.runs import Problem, RunFacts, Steps
from dataflex.spec import ComponentSpec

_REFUSED = (
    ("streaming", "a streamed data set has no rows to choose from", "Set streaming: false."),
    ("use_ray", "Ray workers do not see DataFlex's trainer", "Launch with FORCE_TORCHRUN=1 instead."),
    ("use_mca", "the Megatron adapter has a training loop of its own", "Leave use_mca out."),
    ("use_hyper_parallel", "hyper_parallel has a training loop of its own", "Leave use_hyper_parallel out."),
    ("auto_find_batch_size", "a batch size that changes while training changes every stage", "Set it to false."),
    ("ignore_data_skip", "skipping no data on resume would replay samples", "Set ignore_data_skip: false."),
    ("predict_with_generate", "generation pads left, which the scoring pass does not", "Evaluate in a run of its own."),
)
"""Boolean LlamaFactory keys that cannot be true under a dynamic train type: (key, reason, fix)."""

_BY_VARIABLE = ("use_ray", "USE_RAY")  # a key that LlamaFactory takes from the environment alone since 0.9.4
_COUNTS = ("per_device_train_batch_size", "gradient_accumulation_steps")
_CHECKPOINT = "resume_from_checkpoint"
_MOST_ROWS = "max_samples"
_FOLDERS = ("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", _CHECKPOINT)
_REFUSED_LOADER = ("split_batches", "dispatch_batches")
_REFUSED_PARALLEL = ("sp_size", "cp_size", "sequence_parallel_size", "ulysses_degree")


def problems(facts: RunFacts, *, count_steps: bool = True) -> Iterator[Problem]:
    """Reasons why a dynamic run cannot start, from its facts alone.

    Args:
        facts: The run.
        count_steps: Whether its steps are those of the run file, which can be added up.
    """
    yield from _llamafactory(facts.arguments, facts.stage)
    yield from sharding.problems(facts.arguments, os.environ, facts.source)
    yield from _paths(facts.arguments)
    if count_steps:
        yield from _steps(facts)
    yield from needs(facts)


def problems_without_plan(
    arguments: Mapping[str, Any],
    stage: str,
    components: Sequence[ComponentSpec],
    source: str,
    origin: Callable[[str], str],
) -> Iterator[Problem]:
    """Those of :func:`problems` that show without the components' parameters.

    Args:
        arguments: LlamaFactory's own keys.
        stage: LlamaFactory's stage.
        components: The chosen components, as far as they are known.
        source: The run file.
        origin: Where the value of a key came from.
    """
    yield from _llamafactory(arguments, stage)
    yield from sharding.problems(arguments, os.environ, source)
    yield from _paths(arguments)
    for component in components:
        yield from needs_of(component, arguments, stage, source, origin, beside=components)


def run_problems(run: RunFile) -> Iterator[Problem]:
    """What a dynamic run cannot be asked for, whatever its component."""
    for key, what, fix in names.repeats(run.llamafactory):
        yield Problem(f"{key} (from {run.origin(key)}) {what}", fix)


def static_problems(run: RunFile) -> Iterator[Problem]:
    """Reasons why a static run cannot start that show before anything loads."""
    yield from _rows(run.llamafactory)
    yield from _paths(run.llamafactory)
    yield from evaluation.problems(run.llamafactory, run.origin)


def _llamafactory(arguments: Mapping[str, Any], stage: str) -> Iterator[Problem]:
    if stage not in (*STAGES, NO_STAGE):
        yield Problem(f"stage: {stage} has no data order to choose.", f"Use one of {', '.join(STAGES)}.")
    if not arguments.get("do_train"):
        yield Problem("do_train is not set, so there is nothing to decide.", "Set do_train: true.")
    for key, reason, fix in _REFUSED:
        if arguments.get(key):
            yield Problem(f"{key}: true is not possible here: {reason}.", fix)
        elif key == _BY_VARIABLE[0] and stage != NO_STAGE and is_enabled(_BY_VARIABLE[1]):
            yield Problem(f"{_BY_VARIABLE[1]} (of the environment) is not possible here: {reason}.", fix)
    loader = arguments.get("accelerator_config")
    for key in _REFUSED_LOADER:
        if isinstance(loader, Mapping) and loader.get(key):
            yield Problem(f"accelerator_config.{key}: true would cut global batches apart.", "Set it to false.")
    for key in _COUNTS:
        given = arguments.get(key)
        if isinstance(given, int) and given < 1:
            yield Problem(f"{key}: {given} leaves an optimizer step without samples.", "Set it to 1 or more.")
    for key in _REFUSED_PARALLEL:
        if whole_of(arguments, key) > 1:
            yield Problem(f"{key} > 1: sequence parallelism is not supported.", "Set it to 1.")
    yield from _rows(arguments)
    if arguments.get("save_only_model") and arguments.get("resume_from_checkpoint"):
        yield Problem(
            "save_only_model keeps no optimizer state, so the run cannot be resumed from its checkpoints.",
            "Set save_only_model: false, or leave resume_from_checkpoint out.",
        )


def _rows(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    given = arguments.get(_MOST_ROWS)
    if isinstance(given, int) and given < 1:
        yield Problem(f"{_MOST_ROWS}: {given} leaves no row of any data set.", "Set it to 1 or more, or leave it out.")


def _paths(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    output_dir = arguments.get("output_dir")
    if output_dir is not None and not (isinstance(output_dir, str) and output_dir.strip()):
        yield Problem(f"output_dir: {output_dir!r} is not the path of a folder.", "Name one.")
    for key in _FOLDERS:
        for given in names.listed(arguments.get(key)) if key in LISTS_OF_PATHS else [arguments.get(key)]:
            # A model may also be the name of one on a hub; what is written as a path is one.
            if not isinstance(given, str) or given.lower() in ("true", "false"):
                continue
            if (key == _CHECKPOINT or written_as_path(given)) and not os.path.isdir(given):
                yield Problem(f"{key}: {given} is not a directory.", "Correct the path.")


def written_as_path(given: str) -> bool:
    """Whether a text can only be a path, not the name of something on a hub."""
    return given.startswith(("/", "./", "../", "~"))


def _steps(facts: RunFacts) -> Iterator[Problem]:
    steps = facts.steps
    if steps.times != -1 or steps.train > 0:
        every_step = facts.step_keys in (StepKeys.EVERY_STEP, StepKeys.PASSES)
        total = steps.train or (0 if every_step else steps.warmup + steps.update * steps.times)
        if (total if every_step else steps.update) and total <= steps.warmup:
            first = f"the {facts.component.kind} acts at" if every_step else "the first boundary at"
            yield Problem(
                f"{_spell(steps)} ends the run before {first} warmup_step={steps.warmup} (from "
                f"{_from(facts, 'warmup_step')}).",
                "Raise train_step or lower warmup_step.",
            )
        if total > MOST_STEPS:
            yield Problem(f"{_spell(steps)} (from {_from(facts)}) is more than {MOST_STEPS:,} steps.", "Lower them.")
        given = whole_of(facts.arguments, "max_steps")
        if given > 0 and total and given != total and not every_step:
            yield Problem(
                f"max_steps={given} differs from the {total} steps of {_spell(steps)} (from "
                f"{_from(facts, 'max_steps')}).",
                "Leave max_steps out, or set train_step to it.",
            )


def _from(facts: RunFacts, *more: str) -> str:
    """Where the step keys that count came from."""
    given = ["train_step"] if facts.steps.train else ["warmup_step", "update_step", "update_times"]
    return " and ".join(dict.fromkeys(map(facts.origin, (*given, *more))))


def _spell(steps: Steps) -> str:
    if steps.train:
        return f"train_step={steps.train}"
    return f"warmup_step={steps.warmup} + update_step={steps.update} x update_times={steps.times}"
