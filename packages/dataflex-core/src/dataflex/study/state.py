"""What a call of ``dataflex study`` knows of its runs: the plan, what each depends on, how far each has come."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from dataflex.errors import ConfigError
from dataflex.study import record
from dataflex.study.arms import Base
from dataflex.study.checks import Checked, Checker, Tools, refuse_alike
from dataflex.study.compare import Comparison, Question, compare
from dataflex.study.identity import Identity, identity
from dataflex.study.notes import RunNote, Stage, note_path, read_note
from dataflex.study.plan import Plan, PlannedRun
from dataflex.study.results import entry, trained
from dataflex.study.study_file import StudyFile
from dataflex.study.study_run import Status, StudyRun
from dataflex.study.todo import Task, refuse_changed, settled, task_of

logger = logging.getLogger("dataflex")

STAND_IN = 10**6
"""Optimizer steps in T's place while runs are checked whose length only the data tells."""


class State:
    """The runs of a study.

    Args:
        study: The study.
        tools: Who checks.
        retry_failed: Whether failed runs are tried again.
        restart: Arms that are trained anew.

    Attributes:
        plan: All runs.
        notes: What is known of each run, by its name.
        identities: What each depends on.
        entries: What study.json has of each.
        extended: Lengths of the baseline beyond those of the file.
        begun: Names of the runs that this call has started.

    Raises:
        ConfigError: for a base that cannot be read, or a record of a later version.
    """

    def __init__(
        self, study: StudyFile, tools: Tools, *, retry_failed: bool = False, restart: Sequence[str] = ()
    ) -> None:
        self.study, self._tools = study, tools
        self._checker = Checker(study, tools)
        self._retry_failed, self.restart = retry_failed, restart
        self._base = Base.read(study.base)
        before = record.read_record(study.out)
        self.extended = list(before.extended) if before is not None else []
        self.plan = Plan(study, self._base, [*study.lengths, *self.extended])
        self._checked: dict[str, Checked] = {}
        self.notes: dict[str, RunNote | None] = {}
        self.identities: dict[str, Identity] = {}
        self.entries: dict[str, StudyRun] = {}
        self.begun: set[str] = set()
        self._learn_length()

    def check(self, seed: int, lengths: Sequence[float] | None = None) -> None:
        """Check the runs of a seed.

        Args:
            seed: The seed.
            lengths: Only the baseline's runs of these lengths.

        Raises:
            ConfigError: with all that is wrong with all of them.
        """
        runs = [
            run
            for run in self.plan.runs_of(seed, stand_in=STAND_IN)
            if lengths is None or (run.length in lengths and run.arm.name == self.study.baseline)
        ]
        found = self._checker.check(runs)
        self._checked[str(seed)] = {**self._checked.get(str(seed), {}), **found}
        if lengths is None and seed == self.study.seeds[0]:
            refuse_alike({run.name: self._identity(run) for run in runs}, runs)

    def know(self, *, write: bool = True) -> None:
        """Read how far all runs have come, and refuse to go on where one that has begun would now be another.

        Args:
            write: Whether to note that a run is done which a kill kept from being noted.

        Raises:
            ConfigError: names the keys that changed.
        """
        for run in self.plan.runs():
            self.identities[run.name] = self._identity(run)
            note = self.notes[run.name] = read_note(run.file)
            if note is not None and self.task(run) is Task.NOTHING:
                note = settled(note, self.study)
            if note is not None and note != self.notes[run.name] and write:
                self.note(run, note)
            else:
                self.entries[run.name] = entry(run, note, self.study)
        refuse_changed(self.plan.runs(), self.notes, self.identities, self.restart)

    def task(self, run: PlannedRun) -> Task:
        """What is left to do for a run."""
        return task_of(
            run,
            self.notes.get(run.name),
            self.identities[run.name],
            self.study,
            retry_failed=self._retry_failed,
            restart=[] if run.name in self.begun else self.restart,
        )

    def note(self, run: PlannedRun, note: RunNote) -> None:
        """Keep what has become of a run."""
        self.notes[run.name] = note
        note.write(note_path(run.file))
        self.entries[run.name] = entry(run, note, self.study)

    def run_named(self, name: str) -> PlannedRun:
        """A run of the plan."""
        return next(run for run in self.plan.runs() if run.name == name)

    def take_length(self, total: int) -> None:
        """Lay the plan out for a T that a run has told, or for more lengths."""
        self.plan = Plan(self.study, self._base, [*self.study.lengths, *self.extended], total)

    def knows_the_metric(self, but: str = "") -> bool:
        """Whether some run, but for one, has the study's metric."""
        return any(self.study.metric in found.metrics for name, found in self.entries.items() if name != but)

    def require_metric(self, runs: Iterable[StudyRun]) -> None:
        """Refuse a metric that no finished run has, if there is one.

        Raises:
            ConfigError: names the numbers there are.
        """
        numbers = [run.metrics for run in runs if run.status is Status.DONE]
        if numbers and not any(self.study.metric in found for found in numbers):
            names = dict.fromkeys(name for found in numbers for name in found)
            raise ConfigError(
                f"metric: {self.study.metric} (from {self.study.path.name}) is not among the numbers of the first run "
                f"that ended: {', '.join(names)}. Name one of them; the run is kept."
            )

    def warn_of_versions(self) -> None:
        """Name the finished runs that other versions of the libraries made: they are kept."""
        now, found = record.versions(), dict[str, str]()
        for run in self.plan.runs():
            note = self.notes[run.name]
            made = dict(note.versions) if note is not None and note.stage is Stage.DONE else {}
            differing = [f"{name} {made[name]}" for name in made if name in now and made[name] != now[name]]
            if differing:
                found[run.name] = ", ".join(differing)
        if found:
            said = "; ".join(f"{name} ({versions})" for name, versions in found.items())
            logger.warning("these runs were made under other versions, and are kept: %s.", said)

    def compare(self) -> dict[str, Comparison]:
        """What the runs so far say of each arm."""
        return compare(self._entries(), question(self.study))

    def write(self) -> record.StudyRecord:
        """Write study.json and study.csv; returns what they hold."""
        found = record.StudyRecord(
            study=self.study.resolved,
            machine=record.machine(),
            versions=record.versions(),
            runs=self._entries(),
            arms=record.of_arms(self.compare()),
            total=self.plan.total,
            extended=self.extended,
        )
        found.write(self.study.out)
        return found

    def _entries(self) -> list[StudyRun]:
        return [self.entries[run.name] for run in self.plan.runs() if run.name in self.entries]

    def _identity(self, run: PlannedRun) -> Identity:
        return identity(run.run, self._checked.get(str(run.seed), {}).get(run.name), run.steps, self._tools.defaults)

    def _learn_length(self) -> None:
        """Read T from a baseline run that is done, where only the data tells it."""
        if self.plan.total is not None:
            return
        for run in self.plan.runs():
            note = read_note(run.file) if run.series == self.study.baseline else None
            if note is not None and note.stage is Stage.DONE:
                self.take_length(trained(run)[0].steps)
                return


def question(study: StudyFile) -> Question:
    """What a study compares."""
    return Question(
        baseline=study.baseline,
        arms=list(study.arms),
        seeds=study.seeds,
        metric=study.metric,
        lower=study.lower,
        cost=study.cost,
    )
