"""A process to run, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Ended(StrEnum):
    """How a job ended."""

    WELL = "well"
    BADLY = "badly"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A process of a list of runs.

    Attributes:
        name: What tells it from the others, fit for a file name.
        command: The arguments, the program first.
        log: File that its output is added to.
        output: File for its standard output alone, written anew; ``None`` adds it to ``log``.
        environ: Variables on top of this process's own.
        takes_gpus: Whether it gets the GPUs of a run.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    output: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    takes_gpus: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job.

    Attributes:
        ended: How it ended, as far as its exit code and our signals tell.
        code: Its exit code; below 0 the number of the signal that ended it.
        began: When it was started, seconds since the epoch.
        seconds: How long it took.
        shared: Whether another job ran beside it.
    """

    ended: Ended
    code: int
    began: float
    seconds: float
    shared: bool


class Running(Protocol):
    """A job that has been started."""

    def poll(self) -> int | None:
        """Its exit code; ``None`` while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to end: a training run finishes its step and writes a checkpoint."""
        ...

    def kill(self) -> None:
        """End it and all that it started, at once."""
        ...


class Executor(Protocol):
    """Where jobs are run."""

    def start(self, job: Job, gpus: tuple[str, ...]) -> Running:
        """Start a job.

        Args:
            job: The job.
            gpus: The devices it may use, as CUDA_VISIBLE_DEVICES names them; empty leaves that variable alone.
        """
        ...
