"""Checks that several plugins make of a run before anything loads. Standard library only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from dataflex.paths import user_path
from dataflex.runs import Problem, RunFacts
from dataflex.sharding import zero3

PAIRED_STAGES = ("dpo", "rm", "kto")
"""Stages whose objective is not the next-token loss of single answers."""

_LEAST_WEIGHT = 1e-6  # of a term of the loss; LlamaFactory leaves out what weighs less

MODEL_FILES = ("config.json", "adapter_config.json")
"""A folder that holds one of these is a model."""

ADAM_FAMILY = ("adamw", "adam")
_DEFAULT_OPTIMIZER = "adamw_torch"
_OTHER_OPTIMIZERS = ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon")
"""LlamaFactory's keys for optimizers whose memory is of projections, blocks or means, not of each weight."""


def needs_single_answers(plan: RunFacts) -> Iterator[Problem]:
    """A problem if the stage has no next-token loss of single answers to score."""
    if plan.stage in PAIRED_STAGES:
        yield Problem(
            f"the {plan.component.name} selector scores the next-token loss of single answers, and stage: {plan.stage} "
            f"(from {plan.origin('stage')}) has another objective.",
            "Use stage: sft or pt, or component_name: loss or random.",
        )


def has_loss_of_each_row(run: RunFacts) -> Iterator[Problem]:
    """Problems if a term of the loss of a stage of preferences depends on which rows share a batch."""
    terms = {
        "dpo": ("pref_bco_weight", "compares the rewards of a pair with their running mean over batches"),
        "kto": ("pref_ftx", "is scaled by how many of a batch's rows are desirable"),
    }
    key, what = terms.get(run.stage, ("", ""))
    weight = run.arguments.get(key)
    if isinstance(weight, (int, float)) and weight > _LEAST_WEIGHT:
        yield Problem(
            f"the {run.component.name} selector scores each row by itself, and the term of {key}: {weight} (from "
            f"{run.origin(key)}) {what}.",
            f"Leave {key} out, or use component_name: random.",
        )


def needs_pairs(run: RunFacts) -> Iterator[Problem]:
    """A problem if the rows of a stage of preferences have no second answer to compare with."""
    if run.stage == "kto":
        yield Problem(
            f"the {run.component.name} selector compares the chosen answer with the rejected one, and a row of stage: "
            f"kto (from {run.origin('stage')}) has one answer with a mark.",
            "Use component_name: loss or random, or stage: dpo or rm.",
        )


def needs_single_texts(run: RunFacts, what: str, part: str) -> Iterator[Problem]:
    """Problems if the stage's rows are pairs, or a component looks at prompts that they do not have.

    Args:
        run: The run.
        what: What the selector does with texts: ``"embeds"``.
        part: Its parameter that says which part of a row counts.
    """
    origin = run.origin("stage")
    if run.stage in PAIRED_STAGES:
        yield Problem(
            f"the {run.component.name} selector {what} single texts, and the rows of stage: {run.stage} (from "
            f"{origin}) are answers with something to compare them with.",
            "Use stage: sft or pt, or component_name: loss or random.",
        )
    if run.stage == "pt" and run.params.get(part) == "prompt":
        yield Problem(
            f"component_params.{part} is prompt, and rows of stage: pt (from {origin}) have none: every token is "
            "learnt.",
            f"Set {part}: all.",
        )


def packed_by(run: RunFacts) -> str:
    """What of a run packs several samples into a row, as its keys say; ``""`` where nothing does."""
    for key in ("packing", "neat_packing"):
        if run.arguments.get(key):
            return f"{key}: true (from {run.origin(key)})"
    if run.stage == "pt" and run.arguments.get("packing") is None:
        return f"stage: pt (from {run.origin('stage')}), which packs rows unless packing is false"
    return ""


def fills_a_stage(plan: RunFacts) -> Iterator[Problem]:
    """A problem if ``max_candidates`` is less than what one stage draws without replacement.

    With ``passes``, a stage reads the rows that it draws so many times.
    """
    candidates = plan.params.get("max_candidates")
    if candidates is None or plan.params.get("replacement"):
        return
    steps = plan.steps.update
    if plan.steps.train > 0:
        steps = min(steps, plan.steps.train - plan.steps.warmup)
    passes = plan.params.get("passes") or 1
    needed = math.ceil(steps * plan.samples_per_step / passes)  # of one process: a lower bound
    if candidates < needed:
        draws_again = ", or set component_params.replacement: true" if "replacement" in plan.params else ""
        again = f", read passes={passes} times" if passes > 1 else ""
        yield Problem(
            f"max_candidates={candidates} cannot fill a stage, which draws at least {needed} samples: {steps} steps of "
            f"{plan.samples_per_step}{again} (from "
            f"{plan.origin('component_params.max_candidates')}).",
            f"Raise max_candidates to {needed} times the number of processes or more, or lower update_step"
            f"{draws_again}.",
        )


def names_targets(run: RunFacts, who: str) -> Iterator[Problem]:
    """Problems if the eval sets a component aims at are merged, or its ``targets`` are not among them, once each."""
    given = run.arguments.get("eval_dataset")
    listed = given if isinstance(given, list) else str(given or "").split(",")
    names = [str(name).strip() for name in listed]
    aims = run.origin("component_params.targets")
    targets = list(run.params.get("targets") or ())
    unknown = [name for name in dict.fromkeys(targets) if given and name not in names]
    if len(names) > 1 and not run.arguments.get("eval_on_each_dataset"):
        yield Problem(
            f"eval_dataset names {len(names)} data sets (from {run.origin('eval_dataset')}), which LlamaFactory "
            f"merges into one, so {who} could not tell its subtasks apart.",
            "Set eval_on_each_dataset: true, or name one data set.",
        )
    twice = [name for name in dict.fromkeys(targets) if targets.count(name) > 1]
    if twice:
        yield Problem(
            f"component_params.targets (from {aims}) names {', '.join(twice)} more than once, but each eval set counts "
            "once.",
            "Name it once. To let it count more, list its file under a second name in dataset_info.json.",
        )
    if unknown:
        yield Problem(
            f"component_params.targets (from {aims}) names {', '.join(unknown)}, which eval_dataset (from "
            f"{run.origin('eval_dataset')}) does not.",
            "Correct the name, or add it to eval_dataset.",
        )


def needs_adam(plan: RunFacts) -> Iterator[Problem]:
    """Problems if the optimizer will hold no Adam moments at the first boundary.

    A pool that is only scored may have none: a component then does without (``RunContext.scores_only``).
    """
    title = f"{plan.component.kind} {plan.component.name!r}"
    if plan.steps.warmup == 0 and not plan.scores_only:
        yield Problem(
            f"{title} reads the optimizer's state, which is empty at warmup_step: 0.", "Set warmup_step above 0."
        )
    optimizer = str(plan.arguments.get("optim", _DEFAULT_OPTIMIZER))
    if not optimizer.startswith(ADAM_FAMILY) or "8bit" in optimizer or "4bit" in optimizer:
        yield Problem(f"{title} needs Adam's moments; optim: {optimizer} has none.", "Set optim: adamw_torch.")
    for key in _OTHER_OPTIMIZERS:
        if plan.arguments.get(key):
            yield Problem(f"{title} needs Adam's moments of each weight; with {key} there are none.", f"Unset {key}.")


def needs_whole_parameters(plan: RunFacts) -> Iterator[Problem]:
    """A problem if ZeRO-3 will spread parameters over ranks, by a key or by accelerate's variables.

    Under FSDP2 a layer's parameters are whole while it runs.
    """
    title = f"{plan.component.kind} {plan.component.name!r}"
    for what in zero3(plan.arguments, os.environ, plan.source):
        yield Problem(
            f"{title} reads whole parameters, which {what} spreads over ranks.",
            'Use FSDP2, ZeRO stage 2 ("zero_optimization": {"stage": 2} in the file deepspeed names), or DDP.',
        )


def compares_with_a_reference(run: RunFacts, who: str, advice: str) -> Iterator[Problem]:
    """Problems with ``component_params.reference``, as far as its files tell, and with losses that cannot be compared.

    Args:
        run: The run.
        who: The component: ``"mixer 'doremi'"``.
        advice: How to come by a reference, where there is none.
    """
    given = str(run.params["reference"])
    folder, origin = user_path(given), run.origin("component_params.reference")
    if folder.is_dir():
        if not any((folder / name).is_file() for name in MODEL_FILES):
            yield Problem(
                f"reference: {given} of {who} (from {origin}) holds no model: there is no "
                f"{' and no '.join(MODEL_FILES)} in it.",
                "Name the output_dir of a finished training run, or one of its checkpoints.",
            )
    elif given.startswith(("/", "./", "../", "~")) or given.count("/") > 1:
        yield Problem(f"reference: {given} of {who} (from {origin}) does not exist.", advice)
    if run.arguments.get("label_smoothing_factor"):
        yield Problem(
            f"label_smoothing_factor (from {run.origin('label_smoothing_factor')}) changes the losses that {who} "
            "weighs.",
            "Set it to 0.",
        )
