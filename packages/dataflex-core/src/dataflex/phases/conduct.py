"""Conducting a project: groups of phases in order, each phase a process of its own; and going on where it stopped."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dataflex.checkpoint.state import write_atomically
from dataflex.errors import ConfigError
from dataflex.phases.failures import why_it_failed
from dataflex.phases.foreground import Foreground
from dataflex.phases.gpus import Gpus
from dataflex.phases.job import Ended, Executor, Job, Outcome
from dataflex.phases.phase import Group, Phase
from dataflex.phases.processes import LocalProcesses, stop_left_behind
from dataflex.phases.progress import Progress, has_checkpoint, note, progress
from dataflex.phases.run import Stop, run_jobs
from dataflex.record.run import RunRecord
from dataflex.resumable import why_no_resume

logger = logging.getLogger("dataflex")

LOGS = "logs"


@dataclass(frozen=True, kw_only=True)
class How:
    """How a project is conducted.

    Attributes:
        command: The command, ``dataflex NAME``.
        plugins: Values of ``-p`` for every run.
        jobs: Most runs of a group at once.
        gpus: Dealt to the runs of a group.
        executor: Where the runs of a group run, each with a log of its own; ``None``: one run at a time is in the
            terminal, several are processes of this machine.
        environ: Variables for the runs.
    """

    command: str
    plugins: Sequence[str] = ()
    jobs: int = 1
    gpus: Gpus | None = None
    executor: Executor | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


def conduct(groups: Sequence[Group], root: Path, how: How) -> None:
    """Write all run files, then train what is not complete.

    Args:
        groups: In order.
        root: The folder they lie in.
        how: How.

    Raises:
        ConfigError: when another call is still at work there, or settings have changed; and what ``then`` of a group
            raises.
        SystemExit: with the exit code of a phase that failed; with 0 after SIGTERM has stopped one.
    """
    if int(os.environ.get("NNODES", "1")) > 1:
        raise ConfigError(
            f"`dataflex {how.command}` runs on one node. Train its run files by hand, in order, with `dataflex-cli "
            "train` on every node: they are ordinary ones."
        )
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root, how.command) as lock:
        stop_left_behind(root / LOGS)
        phases = [phase for group in groups for phase in group.phases]
        for phase in phases:  # all of them before the first trains
            progress(phase)
        for phase in phases:
            phase.run_file.parent.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(dict(phase.keys), sort_keys=False, allow_unicode=True)
            write_atomically(phase.run_file, text.encode())
        project = _Project(phases, root, how, lock)
        with project.stop.listening():
            for group in groups:
                project.train(group)
                project.run(group.jobs())
                group.then()


class _Project:
    """One call, while it holds the lock.

    Args:
        phases: All of them.
        root: The folder they lie in.
        how: How.
        lock: The descriptor of the lock.
    """

    def __init__(self, phases: Sequence[Phase], root: Path, how: How, lock: int) -> None:
        self._root, self._how, self._lock = root, how, lock
        self.stop = Stop()
        self._failed: list[int] = []
        waiting = [phase for phase in phases if progress(phase) is not Progress.COMPLETE]
        self._to_come = {read.path for phase in waiting for read in phase.reads}

    def train(self, group: Group) -> None:
        """Train what is not complete of a group."""
        self._refuse_to_go_on()
        waiting = [phase for phase in group.phases if self._waits(phase)]
        by_name = {phase.slug: phase for phase in waiting}
        alone = len(group.phases) == 1 and self._how.executor is None
        run_jobs(
            [self._job(phase) for phase in waiting],
            Foreground(self._lock, self.stop) if alone else self._how.executor or LocalProcesses(),
            at_once=self._how.jobs,
            stop=self.stop,
            gpus=None if alone else self._how.gpus,
            on_start=lambda job: self._begins(by_name[job.name], None if alone else job.log),
            on_end=lambda job, outcome: self._ended(by_name[job.name], outcome),
        )
        if self._failed:
            raise SystemExit(self._failed[0])
        if any(progress(phase) is not Progress.COMPLETE for phase in waiting):
            if self.stop.signal == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(0)  # of a phase that was stopped, it has been said

    def run(self, jobs: Sequence[Job]) -> None:
        """Run what is no training run, each with a log of its own."""
        self._refuse_to_go_on()

        def ended(job: Job, outcome: Outcome) -> Iterable[Job]:
            if outcome.ended is Ended.BADLY:
                logger.error("%s", why_it_failed(job.log, outcome.code))
                self._failed.append(outcome.code)
            return ()

        executor = self._how.executor or LocalProcesses()
        run_jobs(jobs, executor, at_once=self._how.jobs, stop=self.stop, gpus=self._how.gpus, on_end=ended)
        if self._failed:
            raise SystemExit(self._failed[0])
        if jobs:
            self._refuse_to_go_on()

    def _refuse_to_go_on(self) -> None:
        """End the command after a signal."""
        if self.stop.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.stop.signal:
            logger.warning("stopped. The same command goes on from there.")
            raise SystemExit(0)

    def _waits(self, phase: Phase) -> bool:
        """Whether a phase is to be trained; asked at its turn, as one before it may have trained anew."""
        missed = phase.leaves is not None and phase.lacks and phase.leaves.path in self._to_come
        if progress(phase) is Progress.COMPLETE and not missed:
            logger.info("%s is complete: %s", phase.title, phase.output_dir)
            return False
        return True

    def _job(self, phase: Phase) -> Job:
        chosen = [word for value in self._how.plugins for word in ("-p", value)]
        command = (sys.executable, "-m", "dataflex", "train", str(phase.run_file), *chosen)
        log = self._root / LOGS / f"{phase.slug}.log"
        return Job(name=phase.slug, command=command, log=log, environ=self._how.environ)

    def _begins(self, phase: Phase, log: Path | None) -> None:
        where = "" if log is None else f"; log: {log}"
        logger.info("%s: %s, %s%s", phase.title, phase.run_file, phase.length, where)
        note(phase, complete=False)

    def _ended(self, phase: Phase, outcome: Outcome) -> Iterable[Job]:
        if outcome.code and self.stop.signal != signal.SIGINT:
            further = "goes on from its last" if has_checkpoint(phase) else "begins it anew: there is no"
            said = _in_vain(phase) or f"The same command {further} checkpoint."
            logger.error("%s ended with exit code %d. %s", phase.title, outcome.code, said)
            self._failed.append(outcome.code)
        elif not _has_ended(phase):
            said = _in_vain(phase) or "The same command goes on from there."
            logger.warning("%s was stopped before its last step. %s", phase.title, said)
        else:
            _say_early_end(phase)
            note(phase, complete=True)
        return ()


def _in_vain(phase: Phase) -> str:
    """What to say of a phase that cannot go on from its own checkpoints; ``""`` if it can."""
    reason = why_no_resume(phase.keys, phase.run_file.name) if has_checkpoint(phase) else ""
    return reason and f"It cannot go on from its checkpoints: {reason}. Delete {phase.output_dir} to begin it anew."


@contextlib.contextmanager
def _locked(root: Path, command: str) -> Iterator[int]:
    handle = os.open(root / f".{command}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another `dataflex {command}`, or a phase it started, is still at work in {root}. Wait for it, or end "
                "it."
            ) from error
        yield handle
    finally:
        os.close(handle)


def _has_ended(phase: Phase) -> bool:
    """Whether a run came to its last step: one that SIGTERM has stopped ends with code 0 too."""
    info = RunRecord(phase.output_dir).info()
    return info is not None and info.ending is not None


def _say_early_end(phase: Phase) -> None:
    """Say of a phase that has ended before its last step what follows from it.

    Raises:
        ConfigError: when it has not left what later phases need.
    """
    info = RunRecord(phase.output_dir).info()
    ending = None if info is None else info.ending
    if ending is None or info is None:
        return
    if phase.leaves is not None and phase.lacks:
        raise ConfigError(f"{phase.title} ended at step {ending.steps}, {phase.leaves.lacking}")
    if ending.ended_by:
        more = "" if phase.leaves is None else phase.leaves.ended_early
        logger.info(
            "%s ended early after %d of %d steps, by %s%s.",
            *(phase.title, ending.steps, info.total, ending.ended_by, more),
        )
