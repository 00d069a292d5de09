"""A study that goes on: one line a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataflex.errors import DataFlexError
from dataflex.study.record import read_record
from dataflex.study.study_run import Status, StudyRun
from dataflex.study.tables import number
from dataflex.watch.pulse import State
from dataflex.watch.view import View, Viewer

HEADS = ("run", "seed", "state", "step", "last loss", "metric", "next boundary", "end", "remark")


@dataclass(frozen=True)
class StudyView:
    """One look at a study.

    Attributes:
        name: What it is called.
        state: How far it has come, in words.
        rows: A row of cells for each run, as :data:`HEADS` names them.
        share: Share of its runs that are done.
        trouble: Why it could not be read now; ``""`` if it could.
    """

    name: str
    state: str
    rows: Sequence[Sequence[str]]
    share: float
    trouble: str = ""


class StudyViewer:
    """Looks at the folder of a study.

    Args:
        folder: It.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._viewers: dict[str, Viewer] = {}
        self._runs: Sequence[StudyRun] = ()

    def look(self) -> StudyView:
        """Look once; what cannot be read is told, and what was read before stands."""
        trouble = ""
        try:
            record = read_record(self._folder)
            self._runs = record.runs if record is not None else self._runs
        except (DataFlexError, OSError) as error:
            trouble = str(error)
        rows = [self._row(run) for run in self._runs]
        states = [row[HEADS.index("state")] for row in rows]
        done = states.count(Status.DONE.value)
        counts = [f"{states.count(state)} {state}" for state in (State.RUNNING, State.DEAD, Status.FAILED)]
        parts = [f"{done} of {len(rows)} runs done", *(count for count in counts if not count.startswith("0 "))]
        return StudyView(self._folder.resolve().name, ", ".join(parts), rows, done / max(len(rows), 1), trouble)

    def _row(self, run: StudyRun) -> list[str]:
        if run.status is Status.DONE:
            steps = "" if run.steps is None else f"{run.steps:,}"
            return [run.name, str(run.seed), run.status.value, steps, "", number(run.value), "", "", run.error]
        view = self._look_at(run)
        facts = dict(view.facts) if view is not None else {}
        cells = [facts.get(name, "") for name in ("step", "last loss")]
        ahead = [facts.get(name, "") for name in ("next boundary", "end")]
        remark = run.error or (view.sign.why if view is not None else "")
        return [run.name, str(run.seed), _state(run, view), *cells, "", *ahead, remark]

    def _look_at(self, run: StudyRun) -> View | None:
        """A run that has begun and is not done."""
        if run.status is Status.FAILED or not run.output_dir:
            return None
        folder = self._folder / run.output_dir
        viewer = self._viewers.setdefault(run.output_dir, Viewer(folder, run.name))
        return viewer.look() if viewer.follower.begun else None


def _state(run: StudyRun, view: View | None) -> str:
    if run.status is Status.FAILED:
        return run.status.value
    return "waiting" if view is None else view.sign.state.value
