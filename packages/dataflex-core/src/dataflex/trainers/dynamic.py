"""The mixin that puts the engine under any ``transformers.Trainer``: put before the Trainer class in the bases.

It overrides what hands out training data and what writes a checkpoint, and calls ``super()`` in each: the training
loop itself stays the Trainer's.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback

from dataflex import checkpoints, errors, state
from dataflex.data.seeded_collator import SeededCollator
from dataflex.errors import ConfigError, DataFlexError, OneRankError
from dataflex.spec import Kind
from dataflex.trainers.engine import Engine
from dataflex.trainers.loss_seam import LossSeam
from dataflex.trainers.metrics import PREFIX
from dataflex.trainers.mix import MixPlanner
from dataflex.trainers.objective_seam import ObjectiveSeam
from dataflex.trainers.recorder import Recorder
from dataflex.trainers.select import SelectPlanner
from dataflex.trainers.session import Session, run_context
from dataflex.trainers.stopping import StopAtSignal, Stopped
from dataflex.trainers.token_counts import Counting
from dataflex.trainers.weight import WeightPlanner
from dataflex.trainers.weight_seam import WeightSeam

logger = logging.getLogger("dataflex")

PLANNERS: Mapping[Kind, type[SelectPlanner] | type[MixPlanner] | type[WeightPlanner]] = {
    Kind.SELECTOR: SelectPlanner,
    Kind.MIXER: MixPlanner,
    Kind.WEIGHTER: WeightPlanner,
}


_IS_TRAINING_LOG = frozenset({"loss", "train_loss"})  # logged at logging_steps, and at the end


class DynamicMixin:
    """Trains on what the session's component decides. The class attribute ``session`` is set by :func:`dynamic`."""

    session: Session
    engine: Engine | None = None
    recorder: Recorder
    component: Any = None
    loss_seam: LossSeam | WeightSeam | None = None
    weighing: WeightPlanner | None = None

    def train(self: Any, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; same arguments as ``transformers.Trainer.train``."""
        started = time.perf_counter()
        checkpoint = self._checkpoint_to_resume(resume_from_checkpoint)
        mixes = self.session.run.mixture is not None
        self.session.count_tokens(self, _counting(checkpoint) if mixes and checkpoint is not None else None)
        self.engine = self._make_engine()
        self.args.max_steps = self.engine.schedule.total
        state.check_component(_state_dict(self.component))  # now, not at the first checkpoint
        if checkpoint is not None:
            self._restore(checkpoint)
        self.recorder = self._make_recorder()
        self.recorder.begin(checkpoint)
        stop = StopAtSignal(self.accelerator)
        self.remove_callback(StopAtSignal)  # of an earlier train()
        self.add_callback(stop)
        with stop.listening():
            output = super().train(str(checkpoint) if checkpoint else None, *args, **kwargs)  # type: ignore[misc]
        if stop.stopped and self.state.global_step < self.engine.schedule.total:
            self._leave()
        if self.state.global_step == self.engine.schedule.total:
            self.engine.planner.finish(self.state.global_step)
        self.recorder.end(self.state.global_step, output.metrics)
        if self.is_world_process_zero():
            self.session.finished(steps=self.state.global_step, started=started, metrics=output.metrics)
        return output

    def _leave(self: Any) -> None:
        folder = self._checkpoint_folder()
        if self.is_world_process_zero():
            logger.warning(
                "stopped by SIGTERM after step %d of %d. Go on with the same command and resume_from_checkpoint=%s",
                self.state.global_step,
                self.engine.schedule.total,
                folder,
            )
        raise Stopped(folder)

    def get_train_dataloader(self: Any) -> DataLoader[Any]:
        """The ticket loader, over the stock loader with our sampler."""
        if self.engine is None:
            return super().get_train_dataloader()  # type: ignore[misc, no-any-return]
        collator = self.data_collator
        self.data_collator = SeededCollator(collator, int(self.args.seed))
        try:
            return self.engine.bind(super().get_train_dataloader())  # type: ignore[misc, no-any-return]
        finally:
            self.data_collator = collator

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """One micro-batch; watched where the component asked for losses, or done by a weighter with its own."""
        if self.weighing is not None and self.weighing.own_step is not None:
            return self.weighing.training_step(self, model, inputs)
        if self.loss_seam is None:
            return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        with self.loss_seam.micro_batch(self.engine.fetched.popleft()):
            return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The stock loss; while a training step is watched, the seam looks at it or weighs it."""
        if self.loss_seam is None or not self.loss_seam.watching:
            return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        stock = super().compute_loss  # type: ignore[misc]
        return self.loss_seam.compute_loss(stock, model, inputs, *args, **kwargs)

    def get_batch_samples(self: Any, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of an optimizer step; weights in its loss may depend on all of them."""
        batches, count = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        if isinstance(self.loss_seam, ObjectiveSeam):
            self.loss_seam.begin_step(batches, list(self.engine.fetched))
        elif isinstance(self.loss_seam, WeightSeam):
            self.loss_seam.begin_step(batches)
        return batches, count

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; what the component reports stands beside the training loss."""
        own = self.engine.planner.log_values() if self.engine is not None and _IS_TRAINING_LOG & logs.keys() else {}
        super().log({**logs, **{PREFIX + name: value for name, value in own.items()}}, *args, **kwargs)  # type: ignore[misc]

    def stock_sampler(self: Any) -> Sampler[int]:
        """The sampler of the Trainer as it would be without a component."""
        return super()._get_train_sampler()  # type: ignore[misc, no-any-return]

    def stock_train_dataloader(self: Any) -> DataLoader[Any]:
        """The loader of the Trainer as it would be without a component."""
        return super().get_train_dataloader()  # type: ignore[misc, no-any-return]

    def keep_progress(self: Any) -> Path | None:
        """Write a checkpoint of the current step unless there is one, so that a failing component loses nothing.

        Returns:
            The checkpoint, or ``None`` before the first step.
        """
        folder: Path = self._checkpoint_folder()
        if self.state.global_step == 0:
            return None
        if state.damage(folder):
            self._save_checkpoint(self.model_wrapped, trial=None)
        return folder

    def _get_train_sampler(self: Any, *args: Any, **kwargs: Any) -> Sampler[int]:
        if self.engine is None:
            return super()._get_train_sampler(*args, **kwargs)  # type: ignore[misc, no-any-return]
        return self.engine.sampler  # type: ignore[no-any-return]

    def _save_checkpoint(self: Any, model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        if self.engine is None:
            return super()._save_checkpoint(model, trial, *args, **kwargs)  # type: ignore[misc]
        with self.recorder.checkpointing():
            try:
                return self._save_whole_checkpoint(model, trial, *args, **kwargs)
            except DataFlexError:
                raise
            except Exception as error:  # a full disk is told in as many ways as there are libraries that write
                raise OneRankError(self._unwritten(error)) from error

    def _unwritten(self: Any, error: Exception) -> str:
        folder: Path = self._checkpoint_folder()
        whole, _ = checkpoints.latest_valid(folder.parent)
        after = f"then resume from {whole}, the last whole one" if whole else "there is no whole one yet"
        free = shutil.disk_usage(folder.parent).free / 2**20
        return (
            f"the checkpoint {folder} was not written ({free:,.0f} MiB are free there): {errors.reason(error)}. "
            f"Make room or mend it; {after}."
        )

    def _save_whole_checkpoint(self: Any, model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        folder: Path = self._checkpoint_folder()
        engine_state = self.engine.state()
        if self.args.should_save:
            saved = state.Saved(engine_state, self.engine.plan, _state_dict(self.component))
            state.save(folder, saved)
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # rotated below, once this one is whole
        try:
            result = super()._save_checkpoint(model, trial, *args, **kwargs)  # type: ignore[misc]
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            state.mark_complete(folder)
            best = self.state.best_model_checkpoint
            checkpoints.rotate(folder.parent, limit, [Path(best)] if best else [])
        return result

    def _checkpoint_folder(self: Any) -> Path:
        return Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"

    def _checkpoint_to_resume(self: Any, given: str | bool | None) -> Path | None:
        """The checkpoint to start from: a named one must be whole, an automatic one is the newest that is."""
        if not given:
            return None
        if isinstance(given, str) and self._names_checkpoint(given):
            checkpoints.require_valid(Path(given))
            return Path(given)
        found, skipped = checkpoints.latest_valid(Path(self.args.output_dir))
        for path, reason in skipped.items():
            logger.warning("not resuming from %s: %s", path, reason)
        if found is None:
            logger.warning("no checkpoint to resume from in %s: starting anew.", self.args.output_dir)
        else:
            logger.info("resuming from %s", found)
        return found

    def _names_checkpoint(self, path: str) -> bool:
        return self.session.names_checkpoint(path)

    def _make_engine(self: Any) -> Engine:
        schedule = self.session.schedule(self.train_dataset, self.args)
        global_batch = int(self.get_total_train_batch_size(self.args))
        context = run_context(self, self.session, global_batch)
        planner = PLANNERS[self.session.run.plan.component.kind](self, self.session, schedule, context)
        self.component = planner.component
        self._watch(planner)
        session = self.session
        return Engine(self, schedule, planner, session.identity, session.versions, session.run.plan.params)

    def _make_recorder(self: Any) -> Recorder:
        recorder = Recorder(self, self.session, self.engine.schedule, self.engine.global_batch)
        self.remove_callback(_Logs)  # of an earlier train()
        self.add_callback(_Logs(recorder))
        return recorder

    def _watch(self: Any, planner: SelectPlanner | MixPlanner | WeightPlanner) -> None:
        self.remove_callback(_StepEnds)  # of an earlier train()
        self.loss_seam = planner.loss_seam
        self.weighing = planner if isinstance(planner, WeightPlanner) else None
        if self.loss_seam is not None:
            self.add_callback(_StepEnds(planner))

    def _restore(self: Any, checkpoint: Path) -> None:
        saved = state.load(checkpoint)
        self.engine.restore(saved, str(checkpoint))
        if saved.component:
            self.component.load_state_dict(dict(saved.component))


class _Logs(TrainerCallback):
    """Writes the Trainer's log down as it grows."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self._recorder.logged(int(state.global_step), dict(logs or {}))


class _StepEnds(TrainerCallback):
    """Tells the planner that an optimizer step has ended, before a checkpoint of it is written."""

    def __init__(self, planner: SelectPlanner | MixPlanner | WeightPlanner) -> None:
        self._planner = planner

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._planner.step_end(int(state.global_step))


def _counting(checkpoint: Path) -> Counting:
    """What a run counted tokens by that goes on from a checkpoint; those of before counted by columns.

    Raises:
        ConfigError: when the checkpoint says something else.
    """
    planner = state.load(checkpoint).engine.planner
    given = planner.get("counting", Counting.COLUMNS.value) if isinstance(planner, Mapping) else None
    for counting in Counting:
        if given == counting.value:
            return counting
    raise ConfigError(
        f"cannot resume from {checkpoint}: the field 'planner' of its engine.json is damaged (counting: {given!r}). "
        "Resume from an earlier checkpoint, or start anew."
    )


def _state_dict(component: Any) -> dict[str, Any]:
    return dict(component.state_dict()) if hasattr(component, "state_dict") else {}


def dynamic(base: type, session: Session) -> type:
    """Derive the dynamic Trainer class of ``base`` for one run."""
    return type(f"Dynamic{base.__name__}", (DynamicMixin, base), {"session": session})
