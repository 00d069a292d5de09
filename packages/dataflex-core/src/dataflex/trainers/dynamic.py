"""The mixin that puts the engine under any ``transformers.Trainer``: put before the Trainer class in the bases.

It overrides what hands out training data and what writes a checkpoint, and calls ``super()`` in each: the training
loop itself stays the Trainer's.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Sampler

from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint import state
from dataflex.checkpoint_keys.compare import Changes, RunKeys
from dataflex.components.context import RunContext
from dataflex.data.seeded_collator import SeededCollator
from dataflex.distributed import together
from dataflex.failures.foreign import foreign
from dataflex.schedule import Schedule
from dataflex.trainers.checkpointing import CheckpointingMixin
from dataflex.trainers.context import run_context
from dataflex.trainers.divergence import Divergence
from dataflex.trainers.engine.engine import Engine
from dataflex.trainers.final_model import final_model_first, has_ended
from dataflex.trainers.first_save import try_first_save
from dataflex.trainers.hooks import HooksAreUsed
from dataflex.trainers.loading import CheckedLoads
from dataflex.trainers.losses.shaper import LossShaper, PlainLoss
from dataflex.trainers.parts import Parts
from dataflex.trainers.progress import RunProgress
from dataflex.trainers.recording.metrics import PREFIX
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.recording.watchers import Logs, StepEnds
from dataflex.trainers.resume import callback_state, run_keys
from dataflex.trainers.resume.callbacks import prepare_callbacks
from dataflex.trainers.resume.checkpoint import why_not_from_its_own
from dataflex.trainers.resume.endings import RunEnd
from dataflex.trainers.resume.new_values import (
    ResumedState,
    in_the_optimizer,
    refuse_in_advance,
    told_of,
    without_misleading_warning,
)
from dataflex.trainers.resume.row_seed import row_seed, row_seed_of, say_ignored
from dataflex.trainers.session import Session
from dataflex.trainers.slots import Opening, Slots, fill_slots
from dataflex.trainers.stopping import StopAtSignal, Stopped
from dataflex.trainers.token_counts import counting_of

logger = logging.getLogger("dataflex")

_IS_TRAINING_LOG = frozenset({"loss", "train_loss"})  # logged at logging_steps, and at the end


class DynamicMixin(CheckpointingMixin, CheckedLoads):
    """Trains on what the session's components decide. The class attribute ``session`` is set by :func:`dynamic`."""

    session: Session
    engine: Engine | None = None
    recorder: Recorder
    parts: Parts
    loss_shaper: LossShaper = PlainLoss()
    made_under: RunKeys
    changes: Changes = Changes()
    took_training_step: bool = False
    _divergence: Divergence
    data_collator: Any
    _trains = False  # inside train(): elsewhere the Trainer hands out what it would without a component
    _goes_on_from: tuple[Path, state.Saved] | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; same arguments as ``transformers.Trainer.train``."""
        started = time.perf_counter()
        checkpoint = self._checkpoint_to_resume(resume_from_checkpoint)
        self.session.began, self.took_training_step = True, False
        self._goes_on_from = None if checkpoint is None else (checkpoint, state.load(checkpoint))
        engine = self._make_engine()
        self.made_under = run_keys.gather(self, self.session)
        self.args.max_steps = engine.schedule.total
        state.check_component(self.parts.state_dict("the start"))  # now, not at the first checkpoint
        self.changes = Changes()
        self.remove_callback(ResumedState)  # of an earlier train()
        if self._goes_on_from is not None:
            self._restore(*self._goes_on_from)
            self.add_callback(ResumedState(self._goes_on_from[0], self.changes))
        self._divergence = Divergence(checkpoint)
        stop = self._stop = self.put_callback(StopAtSignal(self.accelerator))
        end = self._run_end = self.put_callback(RunEnd(engine.schedule.total))
        self.put_callback(
            HooksAreUsed(self, has_served=lambda: engine.has_served, took_step=lambda: self.took_training_step)
        )
        self.seal_after_callbacks()
        kept = [] if checkpoint is None else prepare_callbacks(self, engine, end, checkpoint)
        try_first_save(self)
        self._put_others_aside(anew=checkpoint is None)
        self.recorder.begin(checkpoint, engine)
        self.loss_shaper.resumed()
        watched = end.watching(self.callback_handler, stop, kept)
        with (
            self._training(),
            stop.listening(),
            watched,
            without_misleading_warning(),
            final_model_first(self, lambda: has_ended(self, stop)),
            foreign("training failed"),
        ):
            output = super().train(str(checkpoint) if checkpoint else None, *args, **kwargs)
        self._close(started, output.metrics, signalled=stop.stopped)
        return output

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        self._trains = True
        try:
            yield
        finally:
            self._trains = False

    def _put_others_aside(self, *, anew: bool) -> None:
        """Keep the checkpoints that other runs left in the folder, where no rotation or resume comes by them."""
        if not self.is_world_process_zero():
            return
        aside = checkpoints.put_aside(self._checkpoint_folder().parent, self.running.run_id, anew=anew)
        if aside is not None:
            logger.warning("checkpoints of an earlier run lay in %s: they are in %s now.", self.args.output_dir, aside)

    def _close(self, started: float, metrics: Any, *, signalled: bool) -> None:
        """Close the records of a run that has ended and tell the component and the plugins; leave one that has not."""
        engine = self.running
        step, end, total = self.state.global_step, self._run_end, engine.schedule.total
        early = step < total
        if early and signalled and not end.by:
            self._leave()
        if early and end.interrupts:
            folder = self._checkpoint_folder()
            kept = checkpoints.latest_valid(folder.parent)[0] if state.damage(folder) else folder
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

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The ticket loader, over the stock loader with our sampler; before and after training the stock loader."""
        if not self._trains:
            with foreign():
                stock: DataLoader[Any] = super().get_train_dataloader()
                return stock
        collator = self.data_collator
        self.data_collator = SeededCollator(collator, int(self.args.seed))
        try:
            with foreign("the loader of the training data could not be made"):
                inner = super().get_train_dataloader()
            loader: DataLoader[Any] = self.running.bind(inner)
            return loader
        finally:
            self.data_collator = collator

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """One micro-batch; watched where the component asked for losses, or done by a weighter with its own."""
        self.took_training_step = True
        if not self._trains:
            with foreign():
                return super().training_step(model, inputs, *args, **kwargs)
        loss = self._step_of_component(model, inputs, *args, **kwargs)
        self._divergence.note(loss)
        return loss

    def _step_of_component(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        own = super().training_step

        def stock() -> Any:
            with foreign():
                return own(model, inputs, *args, **kwargs)

        return self.loss_shaper.training_step(stock, model, inputs, lambda: self.running.fetched.popleft())

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The stock loss; while a training step is watched, whoever shapes the loss looks at it or weighs it."""
        own = super().compute_loss

        def stock(*args: Any, **kwargs: Any) -> Any:
            with foreign():
                return own(*args, **kwargs)

        return self.loss_shaper.compute_loss(stock, model, inputs, *args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of an optimizer step; weights in its loss may depend on all of them."""
        with foreign():
            batches, count = super().get_batch_samples(*args, **kwargs)
        if self._trains:
            self.loss_shaper.begin_step(batches, list(self.running.fetched))
        return batches, count

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; what the component reports stands beside the training loss."""
        own: dict[str, float] = {}
        if self.engine is not None and _IS_TRAINING_LOG & logs.keys():
            own = {**self.engine.planner.log_values(), **self.loss_shaper.log_values()}
            self._divergence.look(self, logs)
        named = {PREFIX + name: value for name, value in own.items()}
        both = {**logs, **named}
        with foreign("the Trainer's log failed"):
            super().log(both, *args, **kwargs)
        # What the Trainer adds to what it logs (DPO's rewards, SFTTrainer's accuracy) may be the metric that counts.
        logs.update({name: value for name, value in both.items() if name not in named})

    def stock_sampler(self) -> Sampler[int]:
        """The sampler of the Trainer as it would be without a component."""
        stock: Sampler[int] = super()._get_train_sampler()
        return stock

    def stock_train_dataloader(self) -> DataLoader[Any]:
        """The loader of the Trainer as it would be without a component."""
        with foreign():
            stock: DataLoader[Any] = super().get_train_dataloader()
            return stock

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler[int]:
        if not self._trains:
            with foreign():
                stock: Sampler[int] = super()._get_train_sampler(*args, **kwargs)
                return stock
        sampler: Sampler[int] = self.running.sampler
        return sampler

    def _load_callback_state(self) -> None:
        """Give callbacks their states back, whatever ``restore_callback_states_from_checkpoint`` says.

        The Trainer's own way makes new callbacks with the arguments of the checkpoint, so that a raised patience would
        have no effect, and without it has no place for a callback that the checkpoint does not know.
        """
        if self.engine is None:
            with foreign():
                super()._load_callback_state()
            return
        callbacks, states = self.callback_handler.callbacks, dict(self.state.stateful_callbacks or {})
        callback_state.give_back(states, callbacks)
        callback_state.report_changes(states, callbacks)
        self._run_end.give_back = lambda: callback_state.give_back(states, callbacks)
        self.state.stateful_callbacks = callback_state.exported(callbacks, self.control)

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        """Whether an evaluation found a new best model; under ``save_strategy: best`` that decides what is saved."""
        with foreign():
            better = super()._determine_best_metric(*args, **kwargs)
        return bool(better or (self.engine is not None and self._stop.stopped))

    def _make_engine(self) -> Engine:
        """Open the parts of the run, and what serves, shapes and records it."""
        session = self.session
        self._take_up_what_was_begun()
        schedule = session.schedule(self.train_dataset, self.args)
        global_batch = int(self.get_total_train_batch_size(self.args))
        context = run_context(
            self,
            session.run,
            data_seed=session.data_seed,
            global_batch=global_batch,
            data_keys=session.data_keys(),
            total_steps=schedule.total,
            columns=session.columns,
            answer_header=session.answer_header,
        )
        progress = RunProgress(self, session.run.facts)
        self.recorder = Recorder(self, session, schedule, global_batch=global_batch, data_seed=context.seed)
        self.parts = Parts(self.accelerator, session.run.timeout, progress)
        slots = self._fill_slots(schedule, context)
        self.loss_shaper = slots.loss
        for callback in (Logs, StepEnds):  # of an earlier train()
            self.remove_callback(callback)
        if slots.loss.sees_steps:
            self.add_callback(StepEnds(slots.loss))
        self.add_callback(Logs(self.recorder, slots.loss))
        self.engine = Engine(
            self,
            schedule,
            slots.order,
            session.identity,
            session.versions,
            session.params,
            data_seed=context.seed,
            loss=slots.loss,
            progress=progress,
            sources=session.sources,
        )
        return self.engine

    def _fill_slots(self, schedule: Schedule, context: RunContext) -> Slots:
        return fill_slots(Opening(self, self.session, self.parts, schedule, context, self.recorder))

    def _take_up_what_was_begun(self) -> None:
        """Draw rows and count tokens as the run did that is gone on with."""
        session, counting = self.session, None
        session.data_seed = row_seed(self.args)
        if self._goes_on_from is not None:
            checkpoint, saved = self._goes_on_from
            session.data_seed = row_seed_of(saved.engine)
            counting = counting_of(checkpoint, saved) if session.run.mixture is not None else None
        session.count_tokens(self, counting)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None, *args: Any, **kwargs: Any) -> Any:
        changed = self.changes.optimizer if checkpoint is not None else ()
        with in_the_optimizer(self, changed, Path(checkpoint or "")), foreign():
            return super()._load_optimizer_and_scheduler(checkpoint, *args, **kwargs)

    def _restore(self, checkpoint: Path, saved: state.Saved) -> None:
        unchecked = state.unchecked(checkpoint)
        if unchecked and self.is_world_process_zero():
            logger.warning(unchecked)
        self.changes = run_keys.changes_since(saved, self.made_under, checkpoint)
        self.running.restore(saved, str(checkpoint), refuse_in_advance(self, self.changes))
        if self.is_world_process_zero():
            for told in told_of(self.changes, saved, checkpoint):
                logger.warning("%s", told)
            if self.running.planner.epoch_samples is None:  # the stock order has always gone by data_seed
                say_ignored(self.args, saved.engine, checkpoint)
        self.parts.load_state_dict(saved.component, f"step {saved.engine.step}")


def dynamic(base: type, session: Session) -> type:
    """Derive the dynamic Trainer class of ``base`` for one run."""
    return type(f"Dynamic{base.__name__}", (DynamicMixin, base), {"session": session})
