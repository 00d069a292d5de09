"""What can be known to be impossible from the run file alone, before anything loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex import resumable, sharding
from dataflex.config import evaluation, names, old_orders, together, too_short
from dataflex.config.gathering import Gathered
from dataflex.config.run import MOST_STEPS, RunFile
from dataflex.kinds import KINDS, Kind, StepKeys
from dataflex.paths import LISTS_OF_PATHS
from dataflex.run_checks import PAIRED_STAGES, needs_adam
from dataflex.runs import Problem, RunFacts, Steps, TrainType
from dataflex.spec import ComponentSpec, Need

STAGES = ("pt", "sft", "dpo", "rm", "kto")
"""LlamaFactory stages whose loader the engine can drive."""

NO_STAGE = ""
"""The stage of a run without LlamaFactory."""

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

COUNTS_WHOLE_POOL = "include_effective_tokens_per_second"
"""LlamaFactory's key for a metric that is wrong when only a part of the data set is trained on."""

_BY_VARIABLE = ("use_ray", "USE_RAY")  # a key that LlamaFactory takes from the environment alone since 0.9.4
_COUNTS = ("per_device_train_batch_size", "gradient_accumulation_steps")
_CHECKPOINT = "resume_from_checkpoint"
_MOST_ROWS = "max_samples"
_FOLDERS = ("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", _CHECKPOINT)
_REFUSED_LOADER = ("split_batches", "dispatch_batches")
_REFUSED_PARALLEL = ("sp_size", "cp_size", "sequence_parallel_size", "ulysses_degree")
_IGNORED = ("disable_shuffling", "group_by_length", "dataloader_drop_last")
"""Keys of the stock loader that choose rows or their order, which the plan of a selector or mixer replaces."""

_THE_PLANS = "the order of the samples is the plan's"
_WHY_IGNORED = {"dataloader_drop_last": "every step of a plan is full"}
_SAMPLING = "train_sampling_strategy"  # the name that transformers 5 gave group_by_length and its siblings
_IGNORED_LOADER = {"even_batches": True, "use_seedable_sampler": True}  # of accelerator_config, with their defaults
_MIXED_BY_LLAMAFACTORY = ("mix_strategy", "interleave_probs")
_STAGES_WITH_TOKEN_LOSS = ("pt", "sft")
_OTHER_LOSSES = ("use_dft_loss", "use_eaft_loss")


def problems(plan: RunFacts, *, count_steps: bool = True) -> Iterator[Problem]:
    """Reasons why a dynamic run cannot start, from its plan alone.

    Args:
        plan: The run.
        count_steps: Whether its steps are those of the run file, which can be added up.
    """
    yield from _llamafactory(plan.arguments, plan.stage)
    yield from sharding.problems(plan.arguments, os.environ, plan.source)
    yield from _paths(plan.arguments)
    if count_steps:
        yield from _steps(plan)
    yield from needs(plan)


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
        yield from _needs_of(component, arguments, stage, source, origin, beside=components)


def run_problems(run: RunFile) -> Iterator[Problem]:
    """What a dynamic run cannot be asked for, whatever its component."""
    for key, what, fix in names.repeats(run.llamafactory):
        yield Problem(f"{key} (from {run.origin(key)}) {what}", fix)


def static_problems(run: RunFile) -> Iterator[Problem]:
    """Reasons why a static run cannot start that show before anything loads."""
    yield from _rows(run.llamafactory)
    yield from _paths(run.llamafactory)
    yield from evaluation.problems(run.llamafactory, run.origin)


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
    most = _whole(run.llamafactory, "max_steps")
    if steps.train > 0 and most not in (-1, steps.train):
        yield f"max_steps={most} is ignored: train_step={steps.train} is the length of the run."


def _counts_epochs(run: RunFile) -> bool:
    if run.step_keys is StepKeys.BOUNDARIES:
        return run.ours.get("update_times") == -1
    steps = run.steps()
    return steps.train == 0 and _whole(run.llamafactory, "max_steps") <= 0


def _steps_of(run: RunFile) -> Steps | None:
    """The step keys; ``None`` for a static run, and for keys that are refused anyway."""
    wrong = Gathered()
    steps = None if run.train_type is TrainType.STATIC else run.steps_or_least(wrong)
    return None if wrong else steps


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0").lower() in ("true", "y", "1")  # as LlamaFactory reads them


def _whole(arguments: Mapping[str, Any], key: str) -> int:
    """A whole number among LlamaFactory's keys; -1 for none, and for what is refused as no number later on."""
    value = arguments.get(key)
    return value if isinstance(value, int) and value else -1


def _llamafactory(arguments: Mapping[str, Any], stage: str) -> Iterator[Problem]:
    if stage not in (*STAGES, NO_STAGE):
        yield Problem(f"stage: {stage} has no data order to choose.", f"Use one of {', '.join(STAGES)}.")
    if not arguments.get("do_train"):
        yield Problem("do_train is not set, so there is nothing to decide.", "Set do_train: true.")
    for key, reason, fix in _REFUSED:
        if arguments.get(key):
            yield Problem(f"{key}: true is not possible here: {reason}.", fix)
        elif key == _BY_VARIABLE[0] and stage != NO_STAGE and _is_set(_BY_VARIABLE[1]):
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
        if _whole(arguments, key) > 1:
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


def _steps(plan: RunFacts) -> Iterator[Problem]:
    steps = plan.steps
    if steps.times != -1 or steps.train > 0:
        every_step = plan.step_keys in (StepKeys.EVERY_STEP, StepKeys.PASSES)
        total = steps.train or (0 if every_step else steps.warmup + steps.update * steps.times)
        if (total if every_step else steps.update) and total <= steps.warmup:
            first = f"the {plan.component.kind} acts at" if every_step else "the first boundary at"
            yield Problem(
                f"{_spell(steps)} ends the run before {first} warmup_step={steps.warmup} (from "
                f"{_from(plan, 'warmup_step')}).",
                "Raise train_step or lower warmup_step.",
            )
        if total > MOST_STEPS:
            yield Problem(f"{_spell(steps)} (from {_from(plan)}) is more than {MOST_STEPS:,} steps.", "Lower them.")
        given = _whole(plan.arguments, "max_steps")
        if given > 0 and total and given != total and not every_step:
            yield Problem(
                f"max_steps={given} differs from the {total} steps of {_spell(steps)} (from "
                f"{_from(plan, 'max_steps')}).",
                "Leave max_steps out, or set train_step to it.",
            )


def _from(plan: RunFacts, *more: str) -> str:
    """Where the step keys that count came from."""
    given = ["train_step"] if plan.steps.train else ["warmup_step", "update_step", "update_times"]
    return " and ".join(dict.fromkeys(map(plan.origin, (*given, *more))))


def _spell(steps: Steps) -> str:
    if steps.train:
        return f"train_step={steps.train}"
    return f"warmup_step={steps.warmup} + update_step={steps.update} x update_times={steps.times}"


def needs(plan: RunFacts) -> Iterator[Problem]:
    """What components need and the run does not offer."""
    components = [part.component for part in plan.parts]
    for part in plan.parts:
        yield from _needs_of(part.component, plan.arguments, plan.stage, plan.source, plan.origin, beside=components)
        if Need.OPTIMIZER_STATE in part.component.needs:
            yield from needs_adam(plan.seen_from(part))


def _needs_of(
    spec: ComponentSpec,
    arguments: Mapping[str, Any],
    stage: str,
    source: str,
    origin: Callable[[str], str],
    *,
    beside: Sequence[ComponentSpec],
) -> Iterator[Problem]:
    title = f"{spec.kind} {spec.name!r}"
    if Need.EVAL_SET in spec.needs and not arguments.get("eval_dataset") and not arguments.get("val_size"):
        yield Problem(f"{title} needs an eval set and {source} names none.", "Set eval_dataset or val_size.")
    record = KINDS[spec.kind]
    if Need.DOMAINS in spec.needs and not any(KINDS[other.kind].mixes for other in beside):
        yield Problem(f"{title} needs domains, which only a run with a mixer has.", "Use dynamic_mix.")
    if Need.PREFERENCES in spec.needs and stage not in PAIRED_STAGES:
        yield Problem(
            f"{title} compares answers, and the rows of stage: {stage or 'none'} (from {origin('stage')}) are single "
            "ones.",
            f"Use stage: {', '.join(PAIRED_STAGES)}, or component_name: loss.",
        )
    if record.mixes and not arguments.get("dataset"):
        yield Problem(f"dataset is missing from {source}; its names are the domains.", "Name the data sets.")
    weighs = record.weighs or spec.gives_weights is True
    if weighs or spec.needs & {Need.DOMAIN_LOSSES, Need.SAMPLE_LOSSES}:
        yield from _loss_seam(title, arguments, stage, origin)
    if weighs:
        for key in _OTHER_LOSSES:
            if arguments.get(key):
                yield Problem(f"{title} weighs the cross entropy, which {key} replaces by another loss.", "Unset it.")


def _loss_seam(title: str, arguments: Mapping[str, Any], stage: str, origin: Callable[[str], str]) -> Iterator[Problem]:
    if stage not in (*_STAGES_WITH_TOKEN_LOSS, NO_STAGE):
        yield Problem(
            f"{title} reads the training loss of single tokens, and stage: {stage} (from {origin('stage')}) has "
            "another objective.",
            "Use stage: sft or pt.",
        )
    if arguments.get("use_asft_loss"):
        yield Problem(f"{title} cannot see the losses of use_asft_loss, which runs a forward of its own.", "Unset it.")
    if arguments.get("enable_liger_kernel"):
        yield Problem(
            f"{title} needs the model's logits, which enable_liger_kernel keeps to itself.",
            "Set enable_liger_kernel: false.",
        )
