"""From an output directory to :class:`RunData`. A run may still be going, or may have been killed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError
from dataflex.math.score_summary import malformed
from dataflex.record import files
from dataflex.record.run import Logged, RunInfo, RunRecord, Sample
from dataflex.report.run import Histograms, RunData, Series, Usage, is_number, series
from dataflex.report.usage import UsageCounter

TRAINER_STATE, TRAINER_LOG = "trainer_state.json", "trainer_log.jsonl"
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
    log = list(record.log()) or trainers_log(folder)
    if info is None and not decisions and not log:
        raise ConfigError(
            f"{folder} is not the output directory of a run: it holds neither dataflex/run.json nor decisions.jsonl "
            f"nor {TRAINER_STATE}. Name the output_dir of a run file."
        )
    for decision in decisions:
        require_drawable(folder, decision)
    usage = UsageCounter(folder).count(info, decisions, steps_done(log, decisions))
    return run_data(name, folder, info, decisions, log, samples=record.samples(), usage=usage)


def run_data(
    name: str,
    folder: Path,
    info: RunInfo | None,
    decisions: Sequence[Decision],
    log: Sequence[Logged],
    *,
    samples: Sequence[Sample],
    usage: Usage | None,
) -> RunData:
    """A run, from what its files hold."""
    return RunData(
        name=name,
        folder=folder,
        info=info,
        decisions=decisions,
        series=_series(log),
        seconds=_seconds(log, decisions),
        samples=samples,
        usage=usage,
        step=steps_done(log, decisions),
        weights=_weights(log),
    )


def steps_done(log: Iterable[Logged], decisions: Iterable[Decision]) -> int:
    """Optimizer steps done, as far as the files tell."""
    return max([0, *(entry.step for entry in log), *(decision.step for decision in decisions)])


def require_drawable(folder: Path, decision: Decision) -> None:
    """Refuse a decision whose scores are not those of a summary.

    Raises:
        ConfigError: names the file and the step.
    """
    wrong = malformed(decision.scores)
    if wrong:
        raise ConfigError(f"{DecisionLog(folder).path}, step {decision.step}: in scores, {wrong}.")


def trainers_log(folder: Path) -> list[Logged]:
    """The log as the Trainer or LlamaFactory keeps it: of static runs, and of runs of older versions."""
    checkpoints = [*folder.glob(f"checkpoint-*/{TRAINER_STATE}")]
    states = [folder / TRAINER_STATE, *sorted(checkpoints, key=lambda path: path.stat().st_mtime, reverse=True)]
    for path in states:
        try:
            history = json.loads(path.read_text(encoding="utf-8"))["log_history"]
        except (OSError, ValueError, KeyError):
            continue  # not there, or half written
        return [Logged(step=int(entry["step"]), values=entry) for entry in history]
    return llamafactorys_log(folder)


def llamafactorys_log(folder: Path) -> list[Logged]:
    """The lines that LlamaFactory writes while it trains; none if there are none."""
    lines = files.read_lines(folder / TRAINER_LOG, files.parse_object, "an entry of LlamaFactory's log")
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
