"""Recording the decisions that several components took at one boundary."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.distributed import all_gather
from dataflex.kinds import KINDS
from dataflex.trainers.clock import DECISIONS
from dataflex.trainers.host import Host
from dataflex.trainers.recording.announce import announce
from dataflex.trainers.recording.metrics import DECIDED, decision_metrics, log_metrics
from dataflex.trainers.recording.outcome import Made, Outcome
from dataflex.trainers.recording.recorder import Recorder

Rows = npt.NDArray[np.int64]


def with_numbers(made: Sequence[Made], drawn: Mapping[str, Any], last: Mapping[str, Any]) -> list[Made]:
    """Decisions with what was drawn after they were taken.

    Args:
        made: In the order in which they were taken.
        drawn: Numbers of what was drawn in a mixer's shares.
        last: For the last of them.
    """
    done = []
    for each in made:
        metrics = dict(each.outcome.metrics)
        if KINDS[each.part.component.kind].mixes:
            metrics |= drawn
        if each is made[-1]:
            metrics = {**last, **metrics}
        done.append(dataclasses.replace(each, outcome=dataclasses.replace(each.outcome, metrics=metrics)))
    return done


def record_all(
    host: Host,
    recorder: Recorder,
    made: Sequence[Made],
    *,
    stage: int,
    step: int,
    plan: Rows,
    seconds: float,
    cpu_began: float,
) -> None:
    """Write the plan and the decisions down, and log their numbers. Called on every rank.

    Args:
        host: The Trainer.
        recorder: Writes on rank 0.
        made: The decisions; none at a boundary at which nobody was asked.
        stage: The stage that begins.
        step: Optimizer steps done.
        plan: Its rows in training order.
        seconds: Spent on all of it.
        cpu_began: CPU seconds when it began.
    """
    entries: dict[str, float] = {}
    if made:
        recorder.clock.add(DECISIONS, seconds, recorder.clock.cpu() - cpu_began)
    if recorder.writes and not made:
        recorder.undecided(step, Outcome(rows=plan, result=plan), stage=stage)
    elif recorder.writes:
        decisions = recorder.together(stage=stage, step=step, made=made, plan=plan, seconds=seconds)
        for each, decision in zip(made, decisions, strict=True):
            announce(decision, described(each))
            numbers = decision_metrics(decision)
            entries = {**entries, **numbers, DECIDED: entries.get(DECIDED, 0.0) + numbers[DECIDED]}
    if made:
        log_metrics(host, all_gather(entries, host.accelerator)[0])


def described(made: Made) -> str:
    """One line about a decision, for the log."""
    metrics: Mapping[str, Any] = made.outcome.metrics
    name, record = made.part.component.name, KINDS[made.part.component.kind]
    if record.mixes:
        shares = zip(metrics["domains"], made.outcome.result.tolist(), strict=True)
        return f"{name} set " + ", ".join(f"{domain} {share:.3f}" for domain, share in shares)
    if record.orders:
        return f"{name} ordered {metrics['ordered']} rows"
    return f"{name} chose {metrics['selected']} samples ({metrics['distinct']} distinct) of {metrics['pool']}"
