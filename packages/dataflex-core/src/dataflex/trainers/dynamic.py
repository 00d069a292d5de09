"""The mixin that puts the engine under any ``transformers.Trainer``: put before the Trainer class in the bases.

It overrides what hands out training data and what writes a checkpoint, and calls ``super()`` in each: the training
loop itself stays the Trainer's.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Sampler
from transformers.trainer_utils import get_last_checkpoint

from dataflex import state
from dataflex.errors import ConfigError
from dataflex.trainers.engine import Engine
from dataflex.trainers.select import SelectPlanner
from dataflex.trainers.session import Session, run_context

logger = logging.getLogger("dataflex")


class DynamicMixin:
    """Trains on what the session's component decides. The class attribute ``session`` is set by :func:`dynamic`."""

    session: Session
    engine: Engine | None = None

    def train(self: Any, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; same arguments as ``transformers.Trainer.train``."""
        started = time.perf_counter()
        if self.args.n_gpu > 1:
            raise ConfigError("several devices in one process (DataParallel) are not supported: use FORCE_TORCHRUN=1.")
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                logger.warning("resume_from_checkpoint: no checkpoint in %s, starting anew.", self.args.output_dir)
        self.engine = self._make_engine()
        self.args.max_steps = self.engine.schedule.total
        if resume_from_checkpoint:
            self.engine.restore(*state.load(Path(resume_from_checkpoint)), str(resume_from_checkpoint))
        if self.is_world_process_zero():
            self.session.log.truncate(self._resumed_step(resume_from_checkpoint))
        output = super().train(resume_from_checkpoint or None, *args, **kwargs)  # type: ignore[misc]
        if self.is_world_process_zero():
            self.session.finished(steps=self.state.global_step, started=started, metrics=output.metrics)
        return output

    def get_train_dataloader(self: Any) -> DataLoader[Any]:
        """The ticket loader, over the stock loader with our sampler."""
        if self.engine is None:
            return super().get_train_dataloader()  # type: ignore[misc, no-any-return]
        return self.engine.bind(super().get_train_dataloader())  # type: ignore[misc, no-any-return]

    def _get_train_sampler(self: Any, *args: Any, **kwargs: Any) -> Sampler[int]:
        if self.engine is None:
            return super()._get_train_sampler(*args, **kwargs)  # type: ignore[misc, no-any-return]
        return self.engine.sampler  # type: ignore[no-any-return]

    def _save_checkpoint(self: Any, model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        if self.engine is not None and self.args.should_save:
            state.save(self._checkpoint_folder(), self.engine.state(), self.engine.plan)
        return super()._save_checkpoint(model, trial, *args, **kwargs)  # type: ignore[misc]

    def _checkpoint_folder(self: Any) -> Path:
        return Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"

    def _make_engine(self: Any) -> Engine:
        schedule = self.session.schedule(self.train_dataset, self.args)
        global_batch = int(self.get_total_train_batch_size(self.args))
        selector = self.session.component(run_context(self, self.session, global_batch))
        planner = SelectPlanner(self, self.session, schedule, selector)
        return Engine(self, schedule, planner, self.session.identity)

    def _resumed_step(self: Any, checkpoint: str | None) -> int:
        return int(checkpoint.rstrip(os.sep).rpartition("-")[2]) if checkpoint else 0

    def keep_progress(self: Any) -> Path | None:
        """Write a checkpoint of the current step unless there is one, so that a failing component loses nothing."""
        folder: Path = self._checkpoint_folder()
        if self.state.global_step == 0:
            return None
        if not folder.exists():
            self._save_checkpoint(self.model_wrapped, trial=None)
        return folder


def dynamic(base: type, session: Session) -> type:
    """Derive the dynamic Trainer class of ``base`` for one run."""
    return type(f"Dynamic{base.__name__}", (DynamicMixin, base), {"session": session})
