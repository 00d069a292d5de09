"""What comes next in a run, and about when: from its schedule and the seconds of its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataflex.kinds import KINDS
from dataflex.record.run import Logged
from dataflex.report.run import RunData
from dataflex.schedule import Schedule

_RECENT = 20
"""Entries of the log that tell how fast a run goes."""


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What comes next.

    Attributes:
        total: Steps of the whole run; ``None`` if that is not known.
        boundary: Step of the next boundary; ``None`` if there is none.
        due: Whether its step has been reached, so that it is being decided.
        boundary_in: Seconds until it, without those of the decision; ``None`` if they cannot be told.
        end_in: Seconds until the run ends, decisions included; ``None`` if they cannot be told.
        step_seconds: Seconds of a step; ``None`` if they cannot be told.
    """

    total: int | None = None
    boundary: int | None = None
    due: bool = False
    boundary_in: float | None = None
    end_in: float | None = None
    step_seconds: float | None = None


def ahead(run: RunData, log: Sequence[Logged], age: float) -> Ahead:
    """Look ahead in a run that goes on.

    Args:
        run: The run.
        log: Its log.
        age: Seconds since its newest entry.
    """
    if run.info is None:
        return _of_a_static_run(log)
    info, pace = run.info, _seconds_of_a_step(log)
    schedule = Schedule(info.warmup, info.update, info.total)
    decided = {decision.step for decision in run.decisions}
    left = [at for at in schedule.boundaries if at >= run.step and at not in decided] if _decides(run) else []
    boundary = left[0] if left else None
    if pace is None:
        return Ahead(total=info.total, boundary=boundary, due=boundary == run.step)
    decision = sum(each.seconds for each in run.decisions) / len(decided) if decided else 0.0
    to_end = (info.total - run.step) * pace + len(left) * decision - age
    return Ahead(
        total=info.total,
        boundary=boundary,
        due=boundary == run.step,
        boundary_in=None if boundary is None else max((boundary - run.step) * pace - age, 0.0),
        end_in=max(to_end, 0.0),
        step_seconds=pace,
    )


def _decides(run: RunData) -> bool:
    """Whether some component of the run decides at boundaries."""
    assert run.info is not None
    kinds = {str(each.get("kind")) for each in run.info.components} or {run.info.kind}
    return any(kind.value in kinds and not record.weighs for kind, record in KINDS.items())


def _seconds_of_a_step(log: Sequence[Logged]) -> float | None:
    """Without the seconds of decisions; what the recent entries took, else all of them."""
    timed = [entry for entry in log if "elapsed" in entry.seconds]
    if not timed:
        return None
    last = timed[-1]
    for first in timed[-_RECENT:]:
        if first.step < last.step:
            return max(_trained(last) - _trained(first), 0.0) / (last.step - first.step)
    return None


def _trained(entry: Logged) -> float:
    return entry.seconds["elapsed"] - entry.seconds.get("decisions", 0.0)


def _of_a_static_run(log: Sequence[Logged]) -> Ahead:
    """LlamaFactory's log names the steps of the whole run, and the time that is left as it reckons it."""
    for entry in reversed(log):
        total = entry.values.get("total_steps")
        if isinstance(total, int):
            return Ahead(total=total, end_in=_spelt_seconds(entry.values.get("remaining_time")))
    return Ahead()


def _spelt_seconds(text: object) -> float | None:
    """``[D days, ]H:MM:SS`` in seconds; ``None`` for anything else."""
    days, _, clock = str(text).rpartition(", ")
    parts, day = clock.split(":"), days.split(" ")[0] or "0"
    if len(parts) != 3 or not day.isdecimal() or not all(part.isdecimal() for part in parts):
        return None
    hours, minutes, seconds = map(int, parts)
    return float(int(day) * 86_400 + hours * 3600 + minutes * 60 + seconds)
