"""From an output directory to :class:`RunData`. A run may still be going, or may have been killed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError
from dataflex.math.score_summary import malformed
from dataflex.record import files
from dataflex.record.plans import find_plans, served_plans
from dataflex.record.run import Logged, RunInfo, RunRecord
from dataflex.report.run import Histograms, RunData, Series, Usage, is_number, series

MOST_TIMES = 9
"""Rows trained on at least this often are counted together."""

_TRAINER_STATE, _TRAINER_LOG = "trainer_state.json", "trainer_log.jsonl"
_OURS = "dataflex/"


def read_runs(folders: Sequence[Path]) -> list[RunData]:
    """Read runs; each gets a name of its own.

    Raises:
        ConfigError: if a folder is not the output directory of a run.
    """
    return [read_run(folder, name) for folder, name in zip(folders, names(folders), strict=True)]


def names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    raise ConfigError("the same run was named twice. Name each once.")


def read_run(folder: Path, name: str) -> RunData:
    """Read one run.

    Raises:
        ConfigError: if the folder holds nothing that a run writes, or something damaged.
    """
    record = RunRecord(folder)
    info, decisions = record.info(), list(DecisionLog(folder))
    log = list(record.log()) or _trainers_log(folder)
    if info is None and not decisions and not log:
        raise ConfigError(
            f"{folder} is not the output directory of a run: it holds neither dataflex/run.json nor decisions.jsonl "
            f"nor {_TRAINER_STATE}. Name the output_dir of a run file."
        )
    for decision in decisions:
        wrong = malformed(decision.scores)
        if wrong:
            raise ConfigError(f"{DecisionLog(folder).path}, step {decision.step}: in scores, {wrong}.")
    step = max([0, *(entry.step for entry in log), *(decision.step for decision in decisions)])
    return RunData(
        name=name,
        folder=folder,
        info=info,
        decisions=decisions,
        series=_series(log),
        seconds=_seconds(log, decisions),
        samples=record.samples(),
        usage=_usage(folder, info, decisions, step),
        step=step,
        weights=_weights(log),
    )


def _trainers_log(folder: Path) -> list[Logged]:
    """The log as the Trainer or LlamaFactory keeps it: of static runs, and of runs of older versions."""
    checkpoints = [*folder.glob(f"checkpoint-*/{_TRAINER_STATE}")]
    states = [folder / _TRAINER_STATE, *sorted(checkpoints, key=lambda path: path.stat().st_mtime, reverse=True)]
    for path in states:
        try:
            history = json.loads(path.read_text(encoding="utf-8"))["log_history"]
        except (OSError, ValueError, KeyError):
            continue  # not there, or half written
        return [Logged(step=int(entry["step"]), values=entry) for entry in history]
    lines = files.read_lines(folder / _TRAINER_LOG, files.parse_object, "an entry of LlamaFactory's log")
    return [Logged(step=int(entry["current_steps"]), values=entry) for entry in lines if "current_steps" in entry]


def _series(log: Iterable[Logged]) -> dict[str, Series]:
    """Every number that is logged, in the order of steps; the last value counts if a step has several."""
    found: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for entry in log:
        for name, value in entry.values.items():
            if is_number(value):
                found[name.removeprefix(_OURS)][entry.step] = float(value)
    return {name: series(sorted(values.items())) for name, values in found.items()}


def _weights(log: Iterable[Logged]) -> Histograms | None:
    found = [entry for entry in log if entry.histogram]
    alike = [entry for entry in found if entry.histogram["edges"] == found[-1].histogram["edges"]]
    if not alike:
        return None
    return Histograms(
        steps=np.array([entry.step for entry in alike], np.float64),
        edges=np.array(alike[-1].histogram["edges"], np.float64),
        counts=np.array([entry.histogram["counts"] for entry in alike], np.float64),
    )


def _seconds(log: Sequence[Logged], decisions: Sequence[Decision]) -> dict[str, float]:
    timed = [entry for entry in log if entry.seconds]
    evaluation = sum(
        value
        for entry in log
        for name, value in entry.values.items()
        if name.startswith("eval_") and name.endswith("_runtime") and isinstance(value, (int, float))
    )
    scoring = sum(decision.timing.get("component_seconds", decision.seconds) for decision in decisions)
    planning = sum(decision.timing.get("planning_seconds", 0.0) for decision in decisions)
    parts = {"scoring": scoring, "planning": planning, "evaluation": evaluation}
    if timed:
        parts["checkpoints"] = timed[-1].seconds.get("checkpoints", 0.0)
        elapsed = timed[-1].seconds.get("elapsed", 0.0)
    else:
        elapsed = next((float(e.values["train_runtime"]) for e in log if "train_runtime" in e.values), 0.0)
    if not elapsed:
        return {name: value for name, value in parts.items() if value}
    return {"training": max(elapsed - sum(parts.values()), 0.0), **parts}


def _usage(folder: Path, info: RunInfo | None, decisions: Sequence[Decision], step: int) -> Usage | None:
    if info is None or not info.pool:
        return None
    recorded = {decision.step: decision.plan_ref for decision in decisions if decision.plan_ref}
    counts: Any = np.zeros(info.pool, np.int32)
    used, covered = 0, [(0, 0.0)]
    plans = find_plans(folder, recorded)
    for plan in served_plans(folder, plans, end=step, global_batch=info.global_batch):
        rows, times = np.unique(plan.rows, return_counts=True)
        if len(rows) and not 0 <= rows[0] <= rows[-1] < info.pool:
            raise ConfigError(
                f"{folder / plans[plan.step]} names rows that a pool of {info.pool} does not have. Move the file away."
            )
        used += int((counts[rows] == 0).sum())
        counts[rows] += times.astype(np.int32)
        covered.append((plan.step + len(plan.rows) // max(info.global_batch, 1), used / info.pool))
    if len(covered) == 1:
        return None
    return Usage(np.bincount(np.minimum(counts, MOST_TIMES), minlength=MOST_TIMES + 1), series(covered))
