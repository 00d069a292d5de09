"""A phase of a project: an ordinary run file, what it reads of earlier phases, what it leaves for later ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dataflex.phases.job import Job

WEIGHTS = "from:"
"""What ``init_mixture_proportions`` begins with where it names a file."""


class Read(Protocol):
    """A hand-over file or folder that a phase reads.

    Attributes:
        field: What the record of the phase keeps its identity under.
        path: Where it is.
        changed: What to say when it is another one, after "was begun with ".
    """

    @property
    def field(self) -> str:
        """The field."""
        ...

    @property
    def path(self) -> Path:
        """The path."""
        ...

    @property
    def changed(self) -> str:
        """The words."""
        ...

    def identity(self) -> str | None:
        """What tells it from others now; ``None`` if it is not there."""
        ...

    def is_same(self, recorded: str) -> bool:
        """Whether it is the one with a recorded identity."""
        ...


@dataclass(frozen=True)
class WeightsRead:
    """A file of proportions that an earlier phase found.

    Attributes:
        path: The file.
    """

    path: Path
    field = "weights"

    @property
    def changed(self) -> str:
        """The words."""
        return f"other weights than {self.path} has now. Restore that file"

    def identity(self) -> str | None:
        """The hash of its bytes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.is_file() else None

    def is_same(self, recorded: str) -> bool:
        """Whether its bytes are the recorded ones; a file that is gone is not."""
        return self.identity() == recorded


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """A file that a phase has to leave.

    Attributes:
        path: The file.
        lacking: What to say where a phase that has ended left none, after "ended at step N, ".
        ended_early: What to add of it where a phase ended early.
    """

    path: Path
    lacking: str
    ended_early: str = ""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One training run of a project.

    Attributes:
        title: For messages.
        slug: What tells it from the others, fit for a file name.
        run_file: Where its run file is written.
        keys: What it holds.
        leaves: A file it has to leave beside a model.
        free_params: Parameters of its component that its result does not depend on.
    """

    title: str
    slug: str
    run_file: Path
    keys: Mapping[str, Any]
    leaves: Leaves | None = None
    free_params: Sequence[str] = ("cache_dir",)

    @property
    def output_dir(self) -> Path:
        """Where it trains."""
        return Path(self.keys["output_dir"])

    @property
    def weights_read(self) -> Path | None:
        """The weights it samples by, if an earlier phase or run found them."""
        given = str(self.keys.get("init_mixture_proportions", ""))
        return Path(given.removeprefix(WEIGHTS)) if given.startswith(WEIGHTS) else None

    @property
    def reads(self) -> Sequence[Read]:
        """What it reads that other phases write."""
        return () if self.weights_read is None else (WeightsRead(self.weights_read),)

    @property
    def lacks(self) -> bool:
        """Whether the file that it has to leave is missing."""
        return self.leaves is not None and not self.leaves.path.is_file()

    @property
    def length(self) -> str:
        """How long it trains, in words."""
        update, times = (self.keys.get(key) for key in ("update_step", "update_times"))
        counted = int(self.keys.get("warmup_step") or 0) + int(update or 0) * max(int(times or 0), 0)
        for steps in (self.keys.get("train_step"), counted if times else 0, self.keys.get("max_steps")):
            if int(steps or 0) > 0:
                return f"{steps} steps"
        return f"{self.keys.get('num_train_epochs', 3)} epochs (steps known once the data is read)"


def no_jobs() -> Sequence[Job]:
    """What is run after a group that needs nothing but its phases."""
    return ()


def nothing() -> None:
    """What follows a group that hands nothing over but what its phases leave."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Phases that do not need each other: they may run at the same time.

    Attributes:
        phases: They.
        jobs: Called whenever all of them are complete: what is run before ``then``, without what has been run already.
        then: Called whenever all of them are complete, before the next group: it writes what they hand over together.
            It is called again after an interruption, and has to give the same then.
    """

    phases: Sequence[Phase]
    jobs: Callable[[], Sequence[Job]] = no_jobs
    then: Callable[[], None] = nothing
