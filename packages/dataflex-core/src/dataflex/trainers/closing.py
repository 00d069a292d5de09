"""The end of a run: its records are closed, or it says how to go on with it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint.damage import why_damaged
from dataflex.distributed import together
from dataflex.trainers.checkpointing import CheckpointingMixin
from dataflex.trainers.final_model import final_model_first
from dataflex.trainers.losses.shaper import LossShaper, PlainLoss
from dataflex.trainers.resume.checkpoint import why_not_from_its_own
from dataflex.trainers.resume.endings import RunEnd
from dataflex.trainers.stopping import Stopped

logger = logging.getLogger("dataflex")


class ClosingMixin(CheckpointingMixin):
    """Closes a run that has come to its end, and leaves one that was stopped."""

    loss_shaper: LossShaper = PlainLoss()
    _run_end: RunEnd

    def _close(self, started: float, metrics: Any, *, signalled: bool) -> None:
        """Close the records of a run that has ended and tell the component and the plugins; leave one that has not."""
        engine = self.running
        step, end, total = self.state.global_step, self._run_end, engine.schedule.total
        early = step < total
        if early and signalled and not end.by:
            self._leave()
        if early and end.interrupts:
            folder = self._checkpoint_folder()
            kept = checkpoints.latest_valid(folder.parent)[0] if why_damaged(folder) else folder
            if self.is_world_process_zero():
                logger.warning("%s", self._stopped(end.by, kept))
            return
        ended_by = (end.by or "the Trainer") if early else ""
        if early and self.is_world_process_zero():
            logger.warning("ended early after step %d of %d, by %s", step, total, ended_by)
        with final_model_first(self, everywhere=True), together("the end of the run", self.accelerator):
            engine.planner.finish(step, engine.stage)
            self.loss_shaper.finish(step)
            self.recorder.end(step, metrics, ended_by)
            if self.is_world_process_zero():
                self.recorder.finished(steps=step, started=started, metrics=metrics, ended_by=ended_by)

    def _leave(self) -> None:
        folder = self._checkpoint_folder()
        if self.is_world_process_zero():
            logger.warning("%s", self._stopped("SIGTERM", folder))
        raise Stopped(folder)

    def _stopped(self, by: str, checkpoint: Path | None) -> str:
        stopped = f"stopped by {by} after step {self.state.global_step} of {self.running.schedule.total}"
        if checkpoint is None:
            return f"{stopped}. There is no checkpoint to go on from."
        if in_vain := why_not_from_its_own(self.session.run.facts):
            return f"{stopped}. The weights so far are in {checkpoint}, but the run cannot go on from there: {in_vain}."
        return f"{stopped}. Go on with the same command and resume_from_checkpoint={checkpoint}"
