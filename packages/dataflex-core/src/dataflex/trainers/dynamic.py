"""The mixin that puts the engine under any ``transformers.Trainer``: put before the Trainer class in the bases.

It overrides what hands out training data and what writes a checkpoint, and calls ``super()`` in each: the training
loop itself stays the Trainer's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Sampler

from dataflex.checkpoint import state
from dataflex.checkpoint_keys.compare import Changes
from dataflex.data.seeded_collator import SeededCollator
from dataflex.failures.foreign import foreign
from dataflex.trainers.closing import ClosingMixin
from dataflex.trainers.divergence import Divergence
from dataflex.trainers.final_model import final_model_first, has_ended
from dataflex.trainers.first_save import try_first_save
from dataflex.trainers.hooks import HooksAreUsed
from dataflex.trainers.loading import CheckedLoads
from dataflex.trainers.opening import OpeningMixin
from dataflex.trainers.recording.metrics import PREFIX
from dataflex.trainers.resume import callback_state, run_keys
from dataflex.trainers.resume.callbacks import prepare_callbacks
from dataflex.trainers.resume.endings import RunEnd
from dataflex.trainers.resume.new_values import (
    ResumedState,
    in_the_optimizer,
    without_misleading_warning,
)
from dataflex.trainers.session import Session
from dataflex.trainers.stopping import StopAtSignal

_IS_TRAINING_LOG = frozenset({"loss", "train_loss"})  # logged at logging_steps, and at the end


class DynamicMixin(OpeningMixin, ClosingMixin, CheckedLoads):
    """Trains on what the session's components decide. The class attribute ``session`` is set by :func:`dynamic`."""

    took_training_step: bool = False
    _divergence: Divergence
    _hooks: HooksAreUsed
    data_collator: Any
    _trains = False  # inside train(): elsewhere the Trainer hands out what it would without a component

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
        self._hooks = self.put_callback(
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
        self._hooks.require_called(int(self.state.global_step))
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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None, *args: Any, **kwargs: Any) -> Any:
        changed = self.changes.optimizer if checkpoint is not None else ()
        with in_the_optimizer(self, changed, Path(checkpoint or "")), foreign():
            return super()._load_optimizer_and_scheduler(checkpoint, *args, **kwargs)


def dynamic(base: type, session: Session) -> type:
    """Derive the dynamic Trainer class of ``base`` for one run."""
    return type(f"Dynamic{base.__name__}", (DynamicMixin, base), {"session": session})
