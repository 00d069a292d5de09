"""What is kept of a run when a component fails: a checkpoint of the steps done, and the sentence that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dataflex.checkpoint import folders as checkpoints
from dataflex.runs import RunFacts
from dataflex.trainers.resume.checkpoint import advice, why_not_from_its_own


class KeepsProgress(Protocol):
    """A Trainer with our mixin."""

    def keep_progress(self) -> Path | None:
        """Write a checkpoint of the current step unless there is one; its folder, or ``None`` before the first."""


class RunProgress:
    """The progress of a training run.

    Args:
        host: Writes the checkpoint.
        facts: The run.
    """

    def __init__(self, host: KeepsProgress, facts: RunFacts) -> None:
        self._host, self._facts = host, facts

    def keep(self, when: str = "Nothing is lost: once it is fixed,") -> str:
        """Write a checkpoint of the steps done, on every rank; how a sentence about a failure ends."""
        kept = self._host.keep_progress()
        return "." if kept is None else f". {advice(self._facts, kept, when=when)}."

    def last_whole(self) -> str:
        """How a sentence about a failure ends that can write no checkpoint."""
        if why_not_from_its_own(self._facts):
            return "."
        last = checkpoints.last_resumable(self._facts.output_dir)
        if last is None:
            return ". There is no checkpoint to resume from yet."
        return f". Once it is fixed, resume from {last}, the last whole checkpoint."
