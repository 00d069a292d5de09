"""Conducting a study: prepare, check, train what is not done, evaluate, write down; and go on where it stopped."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from dataflex.errors import ConfigError, DataFlexError
from dataflex.phases.failures import why_it_failed
from dataflex.phases.gpus import Gpus
from dataflex.phases.job import Ended, Executor, Job, Outcome
from dataflex.phases.processes import LocalProcesses, stop_left_behind
from dataflex.phases.run import Stop, run_jobs
from dataflex.record import lock as run_lock
from dataflex.study import commands, record
from dataflex.study.checks import Tools
from dataflex.study.file import StudyFile
from dataflex.study.notes import Part, RunNote, Stage
from dataflex.study.plan import LOGS, PlannedRun
from dataflex.study.results import NOT_WHOLE, evaluated_folder, trained, training_finished
from dataflex.study.run_files import write_run_file
from dataflex.study.state import State
from dataflex.study.study_run import Status, StudyRun
from dataflex.study.todo import Task, refuse_unknown_arms, settled

logger = logging.getLogger("dataflex")

_EARLIER = "earlier"


class Watcher(Protocol):
    """Who shows what goes on."""

    def begins(self, runs: Sequence[PlannedRun], count: int, entries: Mapping[str, StudyRun]) -> None:
        """Told of the runs that are known, how many there will be and how far they are, and again if there are more."""

    def started(self, run: PlannedRun, *, evaluates: bool) -> None:
        """Told of a run that has been started, or whose evaluation has."""

    def ended(self, run: PlannedRun, found: StudyRun) -> None:
        """Told of a run that has ended."""

    def tick(self) -> None:
        """Called ten times a second."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a study is conducted.

    Attributes:
        jobs: Most runs at once.
        gpus: Dealt to the runs of this machine.
        executor: Where the runs run.
        plugins: Values of ``-p`` for every run.
        environ: Variables for the runs and the study's commands, on top of this process's own.
        retry_failed: Whether failed runs are tried again.
        restart: Arms that are trained anew.
        extend_baseline: Whether the next length of the baseline is trained, where an arm lies outside all of them.
    """

    jobs: int = 1
    gpus: Gpus | None = None
    executor: Executor = field(default_factory=LocalProcesses)
    plugins: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    retry_failed: bool = False
    restart: Sequence[str] = ()
    extend_baseline: bool = False


def conduct(study: StudyFile, tools: Tools, options: Options, watcher: Watcher) -> tuple[record.StudyRecord, bool]:
    """Conduct a study.

    Args:
        study: What to do.
        tools: Who checks.
        options: How.
        watcher: Who shows it.

    Returns:
        What came of it; and whether a signal ended it.

    Raises:
        ConfigError: for everything it is refused for before its first run, or when the metric is not among the
            numbers of the first one that ends.
    """
    refuse_unknown_arms(options.restart, study)
    with run_lock.hold(study.out, "", "out:"):
        stop_left_behind(study.out / LOGS)
        conductor = Conductor(study, tools, options, watcher)
        with conductor.stop.listening():
            if conductor.prepare():
                conductor.train()
        return conductor.state.write(), bool(conductor.stop.signal)


class Conductor:
    """One call of ``dataflex study``, while it holds the study's lock.

    Args:
        study: What to do.
        tools: Who checks.
        options: How.
        watcher: Who shows it.

    Attributes:
        stop: What signals have asked for.
        state: What is known of the runs.
    """

    def __init__(self, study: StudyFile, tools: Tools, options: Options, watcher: Watcher) -> None:
        self.study, self.options, self.watcher = study, options, watcher
        self.stop = Stop()
        self.state = State(study, tools, retry_failed=options.retry_failed, restart=options.restart)

    def prepare(self) -> bool:
        """Prepare each seed and check its runs, the first seed's before the next one is prepared.

        Returns:
            Whether no signal has come meanwhile.

        Raises:
            ConfigError: with all that is wrong.
        """
        for seed in self.study.seeds:
            self._prepare_seed(seed)
            if self.stop.signal:
                return False
            self.state.check(seed)
        self.state.know()
        self.state.require_metric(self.state.entries.values())
        self.state.warn_of_versions()
        return not self.stop.signal

    def train(self) -> None:
        """Train and evaluate what is not done yet."""
        self._announce()
        self._run(self._jobs())
        if self.options.extend_baseline and not self.stop.signal and self._extend():
            self._announce()
            self._run(self._jobs())

    def _announce(self) -> None:
        plan = self.state.plan
        self.watcher.begins(plan.runs(), plan.count, self.state.entries)

    def _jobs(self) -> list[Job]:
        """What is left to do; only the first of it while something is not known that the first run tells."""
        jobs = [job for run in self.state.plan.runs() if (job := self._job(run)) is not None]
        waits = self.state.plan.total is None or not self.state.knows_the_metric()
        return jobs[:1] if waits else jobs

    def _job(self, run: PlannedRun) -> Job | None:
        task = Task.NOTHING if run.name in self.state.begun else self.state.task(run)
        if task is Task.EVALUATE:
            return self._evaluate_job(run)
        if task in (Task.NOTHING, Task.LEAVE):
            return None
        chosen = [word for value in self.options.plugins for word in ("-p", value)]
        command = (sys.executable, "-m", "dataflex", run.arm.command or "train", str(run.file), *chosen)
        return Job(name=run.name, command=command, log=run.log, environ=self.options.environ)

    def _evaluate_job(self, run: PlannedRun) -> Job:
        command = commands.evaluate_command(self.study.evaluate, evaluated_folder(run))
        return commands.evaluate_job(run, command, self.options.environ)

    def _run(self, jobs: Sequence[Job]) -> None:
        run_jobs(
            jobs,
            self.options.executor,
            at_once=self.options.jobs,
            stop=self.stop,
            gpus=self.options.gpus,
            on_start=self._on_start,
            on_end=self._on_end,
            tick=self.watcher.tick,
        )

    def _prepare_seed(self, seed: int) -> None:
        command = commands.prepare_command(self.study.prepare, seed, self.study.out)
        if not command or commands.is_prepared(command, seed, self.study.out):
            return
        logger.info("prepare, seed %d: %s", seed, " ".join(command))

        def ended(job: Job, outcome: Outcome) -> Iterable[Job]:
            if outcome.ended is Ended.BADLY:
                raise ConfigError(f"prepare of seed {seed} failed: {why_it_failed(job.log, outcome.code)}")
            if outcome.ended is Ended.WELL:
                commands.mark_prepared(command, seed, self.study.out)
            return ()

        job = commands.prepare_job(command, seed, self.study.out, self.options.environ)
        run_jobs([job], self.options.executor, at_once=1, stop=self.stop, gpus=self.options.gpus, on_end=ended)

    def _on_start(self, job: Job) -> None:
        run, evaluates = self._run_of(job)
        self.watcher.started(run, evaluates=evaluates)
        anew = run.arm.name in self.options.restart and run.name not in self.state.begun
        self.state.begun.add(run.name)
        if evaluates:
            return
        note = self.state.notes.get(run.name)
        anew = anew or note is None or note.stage in (Stage.TRAINED, Stage.DONE)
        if note is None or anew or self.state.identities[run.name] != note.identity:
            put_aside(run.output_dir, self.study.out)
            note = RunNote(identity=self.state.identities[run.name])
        elif run.run.llamafactory.get("overwrite_output_dir"):
            shutil.rmtree(run.output_dir, ignore_errors=True)  # unfinished, and nothing to go on from
        write_run_file(run)
        begins = replace(note, stage=Stage.BEGUN, error="", starts=note.starts + 1, versions=record.versions())
        self.state.note(run, begins)

    def _run_of(self, job: Job) -> tuple[PlannedRun, bool]:
        name, _, what = job.name.partition(" ")
        return self.state.run_named(name), bool(what)

    def _on_end(self, job: Job, outcome: Outcome) -> Iterable[Job]:
        run, evaluates = self._run_of(job)
        note = self.state.notes[run.name]
        assert note is not None
        after = self._evaluated(run, note, outcome) if evaluates else self._trained(run, note, outcome)
        self.state.note(run, after)
        if after.stage is Stage.TRAINED and not evaluates and not self.stop.signal:
            follows = [self._evaluate_job(run)]
        else:
            self.watcher.ended(run, self.state.entries[run.name])
            follows = self._released(run)
        self.state.write()
        return follows

    def _trained(self, run: PlannedRun, note: RunNote, outcome: Outcome) -> RunNote:
        part = Part(began=outcome.began, seconds=outcome.seconds, shared=outcome.shared)
        note = replace(note, parts=[*note.parts, part])
        if outcome.code == 0 and training_finished(run):
            after = replace(note, stage=Stage.TRAINED, trained=True)
            return after if self.study.evaluate else settled(after, self.study)
        if outcome.code == 0 or outcome.ended is Ended.STOPPED:  # a run that SIGTERM stops ends with 0
            return replace(note, stage=Stage.BEGUN, error=NOT_WHOLE)
        return replace(note, stage=Stage.FAILED, error=why_it_failed(run.log, outcome.code))

    def _evaluated(self, run: PlannedRun, note: RunNote, outcome: Outcome) -> RunNote:
        if outcome.ended is Ended.STOPPED:
            return replace(note, stage=Stage.TRAINED)
        note = replace(note, trained=True, stage=Stage.FAILED)
        if outcome.ended is Ended.BADLY:
            return replace(note, error=f"evaluate failed: {why_it_failed(run.log, outcome.code)}")
        try:
            text = commands.said_by(run).read_text(encoding="utf-8", errors="replace")
            numbers = commands.last_object(text, trained(run)[0].metrics)
        except (OSError, ConfigError) as error:
            return replace(note, error=str(error))
        return settled(replace(note, numbers=numbers), self.study)

    def _released(self, run: PlannedRun) -> list[Job]:
        """The jobs that waited for this run to end."""
        found, state = self.state.entries[run.name], self.state
        if state.plan.total is not None and state.knows_the_metric(but=run.name):
            return []  # none did
        if found.status is Status.DONE:
            state.require_metric([found])
            if state.plan.total is None and run.series == self.study.baseline and found.steps:
                state.take_length(found.steps)
                state.know()
                self._announce()
        return self._jobs()

    def _extend(self) -> bool:
        """Add the next length of the baseline where an arm lies outside all of them; whether one was added."""
        state, found = self.state, self.state.compare().values()
        lengths = state.plan.lengths
        more = [lengths[-1] * 2] if any(each.equal_cost.dearer for each in found) else []
        more += [lengths[0] / 2] if any(each.equal_cost.cheaper for each in found) else []
        if not more or state.plan.total is None:
            return False
        said, before, total = " and ".join(f"{length:g}" for length in more), list(state.extended), state.plan.total
        state.extended += more
        try:
            state.take_length(total)
            for seed in self.study.seeds:
                state.check(seed, more)
            state.know()
        except DataFlexError as error:
            state.extended = before
            state.take_length(total)
            logger.warning("the baseline cannot be trained at %s times its length: %s", said, error)
            return False
        logger.info("the baseline is trained at %s times its length, too.", said)
        return True


def put_aside(output_dir: Path, out: Path) -> None:
    """Keep what an earlier run left where a new one is to begin: it moves to ``earlier/N/``."""
    if not output_dir.is_dir() or not any(output_dir.iterdir()):
        return
    numbers = [int(path.name) for path in (out / _EARLIER).glob("*") if path.name.isdecimal()]
    aside = out / _EARLIER / str(max(numbers, default=0) + 1) / output_dir.relative_to(out)
    aside.parent.mkdir(parents=True)
    output_dir.rename(aside)
    logger.warning("an earlier run lay in %s: it is in %s now.", output_dir, aside)
