"""Checks that several plugins make of a run before anything loads. Standard library only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from dataflex.runs import Problem, RunFacts
from dataflex.sharding import zero3

PAIRED_STAGES = ("dpo", "rm", "kto")
"""Stages whose objective is not the next-token loss of single answers."""

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
            "Use stage: sft or pt, or component_name: random.",
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
            "Use stage: sft or pt, or component_name: random.",
        )
    if run.stage == "pt" and run.params.get(part) == "prompt":
        yield Problem(
            f"component_params.{part} is prompt, and rows of stage: pt (from {origin}) have none: every token is "
            "learnt.",
            f"Set {part}: all.",
        )


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
