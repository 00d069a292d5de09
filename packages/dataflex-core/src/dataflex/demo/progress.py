"""One line of progress per phase of the demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dataflex.console import stderr

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Line:
    """The line of one phase.

    Attributes:
        note: The text beside the bar.
        seconds: How long the phase took; set when it ends.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self.note = ""
        self.seconds = 0.0

    def show(self, note: str, done: int = 0, total: int | None = None) -> None:
        """Set the text beside the bar, and the bar itself where there is something to count."""
        self.note = note
        self._progress.update(self._task, note=note, completed=done, total=total)


@contextmanager
def phase(title: str) -> Iterator[Line]:
    """Show a line while the body runs, and leave it there with its seconds; a file or pipe gets it once, at the end."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    started = time.perf_counter()
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(f"{title:<24}", total=None, note="")
        line = Line(progress, task)
        yield line
        line.seconds = time.perf_counter() - started
        progress.update(task, total=1, completed=1)
    if not stderr.is_terminal:
        stderr.print(f"{title:<24}{line.seconds:6.1f} s  {line.note}", markup=False, soft_wrap=True)
