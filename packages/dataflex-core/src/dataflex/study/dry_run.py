"""The runs of a study with their resolved files, nothing written and nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataflex.study import commands
from dataflex.study.checks import Tools
from dataflex.study.run_files import head_of, text_of
from dataflex.study.state import STAND_IN, State
from dataflex.study.study_file import StudyFile
from dataflex.study.todo import Task, refuse_unknown_arms


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What would be done.

    Attributes:
        rows: A row for each run, for a table.
        count: How many runs there are.
        left: How many of them are left to train or evaluate.
        notes: What is to be known before they start.
        files: Their run files as text.
    """

    rows: Sequence[dict[str, str]]
    count: int
    left: int
    notes: Sequence[str]
    files: Sequence[str]


def dry_run(study: StudyFile, tools: Tools, *, retry_failed: bool = False, restart: Sequence[str] = ()) -> DryRun:
    """List what a study would do.

    Args:
        study: The study.
        tools: Who checks.
        retry_failed: Whether failed runs would be tried again.
        restart: Arms that would be trained anew.

    Raises:
        ConfigError: for everything the study would be refused for; runs of seeds that ``prepare`` has not been run for
            are not checked.
    """
    refuse_unknown_arms(restart, study)
    state, unprepared = State(study, tools, retry_failed=retry_failed, restart=restart), []
    for seed in study.seeds:
        command = commands.prepare_command(study.prepare, seed, study.out)
        if command and not commands.is_prepared(command, seed, study.out):
            unprepared.append(seed)
        else:
            state.check(seed)
    state.know(write=False)
    tasks = {run.name: state.task(run) for run in state.plan.runs()}
    runs = state.plan.runs(stand_in=STAND_IN)
    rows = [
        {
            "run": run.series,
            "seed": str(run.seed),
            "steps": _steps(run.steps, known=run.name in tasks),
            "state": tasks.get(run.name, Task.TRAIN).value,
            "file": str(run.file),
        }
        for run in runs
    ]
    notes = []
    if unprepared:
        notes.append(f"Not checked: prepare has not been run for seed {', '.join(map(str, unprepared))}.")
    if state.plan.total is None:
        notes.append(f"T is not known before the first run of {study.baseline} has ended: only the data tells it.")
    if any(str(run.run.llamafactory.get("save_strategy")) == "no" for run in runs):
        notes.append("save_strategy: no: a run that is killed leaves no checkpoint and begins anew.")
    idle = sum(task in (Task.NOTHING, Task.LEAVE) for task in tasks.values())
    files = [head_of(run) + text_of(run.run) for run in runs if run.name in tasks]
    return DryRun(rows=rows, count=state.plan.count, left=state.plan.count - idle, notes=notes, files=files)


def _steps(steps: int | None, *, known: bool) -> str:
    return f"{steps:,}" if known and steps is not None else "as the data tells" if known else "T"
