"""Progress of a scoring pass: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

logger = logging.getLogger("dataflex")

QUIET_SECONDS = 2.0
LINE_SECONDS = 30.0


class ScoringProgress:
    """Shows how far scoring is, once it has taken longer than two seconds.

    Args:
        total: Samples in all.
        enabled: False on all ranks but one.
        share: Ranks that score at the same time; this rank's samples count that many times.
        console: Where to draw; stderr by default.
        what: What is done, for the bar and the line.
    """

    def __init__(
        self, total: int, *, enabled: bool, share: int = 1, console: Console | None = None, what: str = "scoring"
    ) -> None:
        self.total, self.enabled, self.share, self.what = total, enabled, share, what
        self.console = console or Console(stderr=True)
        self.done = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._started = self._spoke = time.monotonic()

    def __enter__(self) -> ScoringProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, samples: int) -> None:
        """Count samples scored by this rank."""
        self.done = min(self.total, self.done + samples * self.share)
        now = time.monotonic()
        if not self.enabled or not logger.isEnabledFor(logging.INFO) or now - self._started < QUIET_SECONDS:
            return
        rate = self.done / (now - self._started)
        if self.console.is_terminal:
            self._draw(rate)
        elif self._spoke == self._started or now - self._spoke >= LINE_SECONDS:
            self._spoke = now
            logger.info("%s: %d of %d samples, %.1f samples/s", self.what, self.done, self.total, rate)

    def _draw(self, rate: float) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn(self.what, markup=False),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}, {task.fields[rate]:.1f} samples/s"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, rate=rate)
            self._bar.start()
        self._bar.update(self._task, completed=self.done, rate=rate)
