"""One line of progress for each run of the demo's study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from dataflex.decisions import DecisionLog
from dataflex.demo.progress import Line, phase
from dataflex.demo.runs import OTHER_DOMAINS
from dataflex.study.plan import PlannedRun
from dataflex.study.progress import last_entry
from dataflex.study.study_run import Status, StudyRun

_LOOK_SECONDS = 0.3


class RunLines:
    """Watches a study that trains one run at a time."""

    def __init__(self) -> None:
        self._open, self._line, self._run = ExitStack(), None, None
        self._looked = 0.0

    _line: Line | None
    _run: PlannedRun | None

    def begins(self, runs: Sequence[PlannedRun], count: int, entries: Mapping[str, StudyRun]) -> None:
        """Nothing to say: the runs are always the same."""

    def started(self, run: PlannedRun, *, evaluates: bool) -> None:
        """Open a line."""
        self._run, self._line = run, self._open.enter_context(phase(f"Run {run.series}"))

    def ended(self, run: PlannedRun, found: StudyRun) -> None:
        """Close it, with what came out."""
        if self._line is not None:
            self._line.show(_said(found))
        self._open.close()
        self._line = self._run = None

    def tick(self) -> None:
        """Bring it up to date."""
        now = time.monotonic()
        if self._line is not None and self._run is not None and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._line.show(*_state(self._run.output_dir))


def _said(found: StudyRun) -> str:
    if found.status is not Status.DONE or found.value is None:
        return f"{found.status.value}"
    others = found.metrics.get(f"eval_{OTHER_DOMAINS}_loss") or float("nan")
    return f"{found.steps} steps, eval loss {found.value:.3f} / {others:.3f}"


def _state(output_dir: Path) -> tuple[str, int, int | None]:
    entry = last_entry(output_dir)
    if entry is None:
        return "starting", 0, None
    selections = sum(1 for _ in DecisionLog(output_dir))
    done, total = int(entry["current_steps"]), int(entry["total_steps"])
    note = f"step {done}/{total}, selections {selections}"
    return (note + f", loss {entry['loss']:.2f}" if "loss" in entry else note), done, total
