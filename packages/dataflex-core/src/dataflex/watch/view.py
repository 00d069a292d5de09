"""What a page and a terminal both show of a run that is watched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.failures import error_log
from dataflex.record.run import FOLDER
from dataflex.report.run import RunData
from dataflex.report.tables import duration
from dataflex.watch.ahead import Ahead, ahead
from dataflex.watch.follow import Follower
from dataflex.watch.pulse import Pulse, Sign, State

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class View:
    """One look at a run.

    Attributes:
        name: What it is called.
        sign: Whether it is at work.
        facts: Name and value of what is known, as text.
        share: Share of its steps that are done; ``None`` if it is not known.
        run: The run; ``None`` if it has written nothing yet.
        trouble: Why it could not be read now; ``""`` if it could.
    """

    name: str
    sign: Sign
    facts: Facts
    share: float | None
    run: RunData | None
    trouble: str = ""

    @property
    def state(self) -> str:
        """Whether it is at work, in words."""
        why = f" ({self.sign.why})" if self.sign.why else ""
        if self.sign.state is State.ENDED and self.run is not None:
            return self.run.state
        return f"{self.sign.state}{why}"


class Viewer:
    """Looks at one run.

    Args:
        folder: Its output directory.
        name: What it is called.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.follower, self.pulse = Follower(folder, name), Pulse(folder)
        self._run: RunData | None = None

    def look(self) -> View:
        """Look once; what cannot be read is told, and what was read before stands."""
        follower, trouble = self.follower, ""
        try:
            self._run = follower.read()
        except (ConfigError, OSError) as error:
            trouble = str(error)
        sign, run = self.pulse.look(follower.info), self._run
        if run is None:
            return View(follower.name, sign, [("so far", "nothing has been written yet")], None, None, trouble)
        if run.info is None and "train_runtime" in run.series:
            sign = Sign(State.ENDED)
        coming = ahead(run, follower.log, follower.age)
        facts = [*_facts(run, coming, sign.state), *_last_words(follower.folder, run, sign.state)]
        share = min(run.step / coming.total, 1.0) if coming.total else None
        return View(follower.name, sign, facts, share, run, trouble)


def _facts(run: RunData, coming: Ahead, state: State) -> Facts:
    facts = [("component", run.info.title)] if run.info is not None else []
    facts.append(("step", f"{run.step:,}" + (f" of {coming.total:,}" if coming.total else "")))
    loss = run.training_loss
    if loss is not None:
        facts.append(("last loss", f"{loss.last:.4g} at step {loss.steps[-1]:,.0f}"))
    if run.boundaries:
        newest = run.boundaries[-1]
        facts.append(("last decision", f"at step {newest.step:,}, took {duration(newest.seconds) or 'no time'}"))
    if state not in (State.RUNNING, State.UNSURE):
        return facts
    if coming.boundary is not None:
        facts.append(("next boundary", _boundary(coming)))
    if coming.end_in is not None:
        facts.append(("end", _about(coming.end_in)))
    if coming.step_seconds:
        facts.append(("a step takes", duration(coming.step_seconds)))
    return facts


def _boundary(coming: Ahead) -> str:
    at = f"step {coming.boundary:,}"
    if coming.due:
        return f"{at}: being decided"
    return at if coming.boundary_in is None else f"{at}, {_about(coming.boundary_in)}"


def _about(seconds: float) -> str:
    return "any moment" if seconds < 1 else f"in about {duration(seconds)}"


def _last_words(folder: Path, run: RunData, state: State) -> Facts:
    """Of a dead run: the last line of its error log, if it was written since the run began, and of its own log."""
    if state is not State.DEAD:
        return []
    words = []
    path = folder / FOLDER / error_log.NAME
    with suppress(OSError, ValueError):
        record = folder / FOLDER / "run.json"
        if path.stat().st_mtime >= record.stat().st_mtime:
            words.append(("its error", path.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]))
    return [*words, ("its last line", _last_line(run))]


def _last_line(run: RunData) -> str:
    at = [(line.steps[-1], name, line.last) for name, line in run.series.items() if line.steps[-1] == run.step]
    numbers = ", ".join(f"{name} {value:.4g}" for _, name, value in at)
    return f"step {run.step:,}" + (f": {numbers}" if numbers else "")
