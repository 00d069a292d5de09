"""What a study shows while it runs: a live table in a terminal, a line for each run that ends elsewhere."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dataflex.console import stderr
from dataflex.report.tables import duration
from dataflex.study.plan import PlannedRun
from dataflex.study.study_run import Status, StudyRun
from dataflex.study.tables import number

if TYPE_CHECKING:
    from rich.console import RenderableType

_TRAINER_LOG = "trainer_log.jsonl"
_REFRESH = 1.0  # seconds between two looks at the files of what runs


class Progress:
    """Watches a study for somebody at a terminal, or for a log file.

    Args:
        name: What the study is called.
        at_once: Most runs at the same time.
    """

    def __init__(self, name: str, at_once: int) -> None:
        self.name, self._at_once = name, at_once
        self._runs: list[PlannedRun] = []
        self._count = 0
        self._entries: dict[str, StudyRun] = {}
        self._running: dict[str, tuple[PlannedRun, str, float]] = {}
        self._looked, self._estimated = 0.0, False
        self._live: Any = None

    def __enter__(self) -> Self:
        """Open the live table, if there is a terminal."""
        if stderr.is_terminal:
            from rich.live import Live

            self._live = Live(console=stderr, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take it away."""
        if self._live is not None:
            self._live.stop()

    def begins(self, runs: Sequence[PlannedRun], count: int, entries: Mapping[str, StudyRun]) -> None:
        """Say how many runs there are, and how many of them are done."""
        self._runs, self._count, self._entries = list(runs), count, dict(entries)
        done = sum(found.status is Status.DONE for found in entries.values())
        left = f", {done} of them done" if done else ""
        _say(f"{self.name}: {count} runs{left}")
        self._estimated = self._left() is not None and self._estimated

    def started(self, run: PlannedRun, *, evaluates: bool) -> None:
        """Note that a run is at work."""
        self._running[run.name] = (run, "evaluating" if evaluates else "starting", time.monotonic())

    def ended(self, run: PlannedRun, found: StudyRun) -> None:
        """Say what came of a run, and the first time every arm has ended once, how long the rest will take."""
        self._running.pop(run.name, None)
        self._entries[run.name] = found
        done = sum(entry.status is not Status.MISSING for entry in self._entries.values())
        _say(f"[{done}/{self._count}] {_said(run, found)}")
        if not self._estimated and (left := self._left()):
            self._estimated = True
            _say(f"about {duration(left)} left")

    def tick(self) -> None:
        """Bring the live table up to date, once a second."""
        now = time.monotonic()
        if self._live is not None and now - self._looked >= _REFRESH:
            self._looked = now
            self._live.update(self._table(), refresh=True)

    def _table(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        states = [entry.status for entry in self._entries.values()]
        left = self._left()
        parts = [f"{states.count(Status.DONE)} of {self._count} done", f"{len(self._running)} running"]
        failed = states.count(Status.FAILED)
        parts += [f"{failed} failed"] if failed else []
        parts += [f"about {duration(left)} left"] if left else []
        table = Table(title=Text(f"{self.name}: {', '.join(parts)}"), title_justify="left", box=None, show_header=False)
        for run, state, since in self._running.values():
            table.add_row(Text(run.name), Text(step_of(run.output_dir) or state), f"{time.monotonic() - since:.0f} s")
        return table

    def _left(self) -> float | None:
        """Seconds until all runs have ended; ``None`` until a run of every arm has."""
        total = 0.0
        for run in self._runs:
            entry = self._entries.get(run.name)
            if entry is not None and entry.status is not Status.MISSING:
                continue
            expected = self._expected(run)
            if expected is None:
                return None
            began = self._running.get(run.name)
            total += max(expected - (time.monotonic() - began[2] if began else 0.0), 0.0)
        known = len(self._runs) == self._count
        return total / self._at_once if known else None

    def _expected(self, run: PlannedRun) -> float | None:
        """What a run of this kind has taken; of another length of the baseline, as long as its steps let expect."""
        own = [entry for entry in self._entries.values() if entry.name == run.series]
        if seconds := [wall for entry in own if (wall := _wall(entry))]:
            return statistics.fmean(seconds)
        for entry in self._entries.values():
            wall = _wall(entry)
            if entry.arm == run.arm.name and wall and entry.steps and run.steps:
                starting = entry.seconds.get("starting") or 0.0
                return starting + (wall - starting) * run.steps / entry.steps
        all_known = [wall for entry in self._entries.values() if (wall := _wall(entry))]
        failed = any(entry.status is Status.FAILED for entry in own)  # its next run may take as long as any other
        return statistics.fmean(all_known) if failed and all_known else None


def step_of(output_dir: Path) -> str:
    """How far a training run has come; ``""`` if that is not known."""
    entry = last_entry(output_dir)
    if entry is None:
        return ""
    loss = f", loss {entry['loss']:.3f}" if "loss" in entry else ""
    return f"step {entry['current_steps']} of {entry['total_steps']}{loss}"


def last_entry(output_dir: Path) -> dict[str, Any] | None:
    """The last line of LlamaFactory's log, with current_steps and total_steps; ``None`` if there is none yet."""
    try:
        *_, last = (output_dir / _TRAINER_LOG).read_text(encoding="utf-8").splitlines()
        entry = dict(json.loads(last))
    except (OSError, ValueError, TypeError):
        return None  # not there yet, or a line half written
    return entry if {"current_steps", "total_steps"} <= entry.keys() else None


def _wall(entry: StudyRun) -> float:
    """Seconds of a finished run, as far as they are known."""
    return sum(value for value in entry.seconds.values() if value is not None)


def _said(run: PlannedRun, found: StudyRun) -> str:
    if found.status is not Status.DONE:
        return f"{run.name}: {found.status.value}: {found.error}"
    wall = duration(_wall(found))
    metric = "no metric" if found.value is None else f"metric {number(found.value)}"
    return f"{run.name}: done, {found.steps:,} steps, {metric}" + (f", {wall}" if wall else "")


def _say(text: str) -> None:
    stderr.print(text, markup=False, highlight=False, soft_wrap=True)
