"""What a run left in its output directory: metrics, steps, where its time went, its metric along the way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError
from dataflex.record.run import Logged, RunInfo, RunRecord
from dataflex.report.run import is_number
from dataflex.study.study_run import Cost

RESULTS, _ALL, _STATE = "eval_results.json", "all_results.json", "trainer_state.json"
_CLOSING = "train_runtime"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What was not spent because it had been made before: embeddings that lay ready.

    Attributes:
        seconds: What making them had taken.
        cpu: Likewise in CPU seconds, over all ranks.
    """

    seconds: float = 0.0
    cpu: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Where the time of a run went, in one unit.

    Attributes:
        training: Neither of the others.
        deciding: Decisions at boundaries, scoring included.
        evaluating: Evaluations while it trained.
        saving: Checkpoints.
    """

    training: float
    deciding: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.deciding + self.evaluating + self.saving


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One finished training run as its own files tell it.

    Attributes:
        metrics: All numbers of its evaluation; ``None`` for one that is not finite.
        steps: Optimizer steps done.
        seconds: Where the seconds went.
        cpu: Where the CPU seconds went; ``None`` for a run that recorded none, such as a static one.
        evaluation: Seconds of the evaluation at the end.
        index: What indexes had cost that the run found ready, of which its own time tells nothing.
    """

    metrics: Mapping[str, float | None]
    steps: int
    seconds: Spent
    cpu: Spent | None = None
    evaluation: float = 0.0
    index: Saved = Saved()


@dataclass(frozen=True, kw_only=True)
class Point:
    """A metric on the way.

    Attributes:
        step: Optimizer steps done.
        value: The metric then.
        cost: Training and deciding up to there, by unit, as far as they are known.
    """

    step: int
    value: float
    cost: Mapping[str, float] = field(default_factory=dict)


def has_finished(folder: Path) -> bool:
    """Whether a run has written all it writes: a dynamic one says so, a static one evaluates last."""
    try:
        info = RunRecord(folder).info()
    except ConfigError:
        return False
    if info is not None:
        return info.ending is not None and info.ending.written
    return _object(folder / RESULTS) is not None and _object(folder / _STATE) is not None


def read_trained(folder: Path) -> Trained:
    """Read a finished run.

    Args:
        folder: Its output directory.

    Raises:
        ConfigError: if a file is missing that every finished run has.
    """
    metrics = _object(folder / RESULTS) or {}
    info = RunRecord(folder).info()
    numbers = {str(name): _finite(value) for name, value in metrics.items() if is_number(value)}
    end = sum(value for name, value in numbers.items() if name.endswith("_runtime") and value is not None)
    if info is None:
        return _static(folder, numbers, end)
    closing = _closing(RunRecord(folder).log())
    if closing is None or info.ending is None:
        raise ConfigError(f"{folder} has no entry of {_CLOSING} in dataflex/log.jsonl: it is not a run that has ended.")
    cpu = _spent(closing.seconds, "cpu_") if "cpu_elapsed" in closing.seconds else None
    spent = _spent(_with_evaluations(closing, RunRecord(folder).log()), "")
    steps, saved = info.ending.steps, _saved(folder)
    return Trained(metrics=numbers, steps=steps, seconds=spent, cpu=cpu, evaluation=end, index=saved)


def costs(
    run: Trained, before: Sequence[Trained] = (), *, counts_index: bool = True
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """What a run cost in each unit: training and deciding; and the part of it that deciding took.

    In steps, deciding counts as the optimizer steps that would have taken as long, so that a busy machine hardly
    matters.

    Args:
        run: The run, or the last phase of a command.
        before: Its phases before that: all they took was deciding.
        counts_index: Whether an index that lay ready counts as deciding what it had cost.
    """
    saved = [each.index for each in (run, *before) if counts_index]
    seconds = run.seconds.deciding + sum(each.seconds for each in saved)
    seconds += sum(each.seconds.training + each.seconds.deciding for each in before)
    whole: dict[str, float | None] = {
        Cost.STEPS: _in_steps(run, seconds, run.steps),
        Cost.SECONDS: run.seconds.training + seconds,
        Cost.CPU_SECONDS: None,
    }
    parts: dict[str, float | None] = {
        Cost.STEPS: _in_steps(run, seconds, 0),
        Cost.SECONDS: seconds,
        Cost.CPU_SECONDS: None,
    }
    earlier = [each.cpu for each in before]
    if run.cpu is not None and None not in earlier:
        cpu = sum(each.cpu for each in saved) + run.cpu.deciding
        cpu += sum(each.training + each.deciding for each in earlier if each is not None)
        whole[Cost.CPU_SECONDS], parts[Cost.CPU_SECONDS] = run.cpu.training + cpu, cpu
    return {str(unit): value for unit, value in whole.items()}, {str(unit): value for unit, value in parts.items()}


def _in_steps(run: Trained, seconds: float, steps: int) -> float | None:
    return steps + run.steps * seconds / run.seconds.training if run.seconds.training > 0 else None


def phases_of(folder: Path) -> list[Path]:
    """Output directories of the phases that a command left below a folder, in the order in which they began."""
    found: list[tuple[str, Path]] = []
    for path in sorted(folder.glob("**/dataflex/run.json")):
        info = _info(path.parents[1])
        if info is not None:
            found.append((info.started, path.parents[1]))
    return [phase for _, phase in sorted(found, key=lambda each: each[0])]


def curve(folder: Path, metric: str, *, counts_index: bool = True) -> list[Point]:
    """A metric on the way, where evaluations while training measured it.

    Args:
        folder: The run's output directory.
        metric: Its name.
        counts_index: As of :func:`costs`.
    """
    entries = list(RunRecord(folder).log()) or _states_log(folder)
    found: dict[int, Point] = {}
    for entry in entries:
        if _CLOSING in entry.values:
            break
        value = entry.values.get(metric)
        if is_number(value) and _finite(value) is not None:
            saved = _saved(folder, before=entry.step) if counts_index else Saved()
            found[entry.step] = Point(step=entry.step, value=float(value), cost=_cost_there(entry, saved))
    return [found[step] for step in sorted(found)]


def _saved(folder: Path, before: float = math.inf) -> Saved:
    """What indexes had cost that the boundaries before a step found ready."""
    metrics = [decision.metrics for decision in DecisionLog(folder) if decision.step < before]
    found = ([each.get(name) for each in metrics] for name in ("index_seconds_saved", "index_cpu_seconds_saved"))
    seconds, cpu = (sum(float(value) for value in values if is_number(value)) for values in found)
    return Saved(seconds=seconds, cpu=cpu)


def _cost_there(entry: Logged, saved: Saved) -> dict[str, float]:
    if "evaluation" not in entry.seconds:  # of an older core: it is not known apart
        return {Cost.STEPS.value: float(entry.step)}
    spent, cpu = _spent(entry.seconds, ""), _spent(entry.seconds, "cpu_")
    deciding = spent.deciding + saved.seconds
    steps = entry.step * (1 + deciding / spent.training) if spent.training > 0 else float(entry.step)
    return {
        Cost.STEPS.value: steps,
        Cost.SECONDS.value: spent.training + deciding,
        Cost.CPU_SECONDS.value: cpu.training + cpu.deciding + saved.cpu,
    }


def _spent(seconds: Mapping[str, float], prefix: str) -> Spent:
    deciding, saving, evaluating = (
        seconds.get(prefix + part, 0.0) for part in ("decisions", "checkpoints", "evaluation")
    )
    training = max(seconds.get(f"{prefix}elapsed", 0.0) - deciding - saving - evaluating, 0.0)
    return Spent(training=training, deciding=deciding, evaluating=evaluating, saving=saving)


def _with_evaluations(closing: Logged, log: Iterable[Logged]) -> Mapping[str, float]:
    """The seconds of a run; those of its evaluations from their own times, if an older core did not count them."""
    if "evaluation" in closing.seconds:
        return closing.seconds
    evaluations = 0.0
    for entry in log:
        if _CLOSING in entry.values:
            break
        evaluations += _evaluation_in(entry.values)
    return {**closing.seconds, "evaluation": evaluations}


def _closing(log: Iterable[Logged]) -> Logged | None:
    return next((entry for entry in log if _CLOSING in entry.values), None)


def _static(folder: Path, metrics: Mapping[str, float | None], end: float) -> Trained:
    """A run of LlamaFactory alone: its training is train_runtime without its evaluations; checkpoints are in it."""
    results, state = _object(folder / _ALL) or {}, _object(folder / _STATE)
    runtime = results.get(_CLOSING)
    if state is None or not is_number(runtime):
        raise ConfigError(f"{folder} holds no {_STATE} or no {_CLOSING} in {_ALL}: it is not a run that has ended.")
    evaluating = sum(_evaluation_in(entry) for entry in state.get("log_history", ()) if isinstance(entry, dict))
    spent = Spent(training=max(float(runtime) - evaluating, 0.0), evaluating=evaluating)
    return Trained(metrics=metrics, steps=int(state.get("global_step", 0)), seconds=spent, evaluation=end)


def _states_log(folder: Path) -> list[Logged]:
    state = _object(folder / _STATE) or {}
    return [Logged(step=int(entry["step"]), values=entry) for entry in state.get("log_history", ()) if "step" in entry]


def _evaluation_in(values: Mapping[str, Any]) -> float:
    names = (name for name in values if name.startswith("eval_") and name.endswith("_runtime"))
    return sum(float(values[name]) for name in names if is_number(values[name]))


def _info(folder: Path) -> RunInfo | None:
    try:
        return RunRecord(folder).info()
    except ConfigError:
        return None


def _object(path: Path) -> dict[str, Any] | None:
    """A JSON object; ``None`` if there is none, or a kill cut it short."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
