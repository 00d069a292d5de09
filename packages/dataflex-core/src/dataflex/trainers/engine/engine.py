"""The engine: where every micro-batch of a dynamic run comes from.

    fetch(ticket)
      ├─ first micro-batch of a stage?  planner.plan(...)  -> plan of the stage   (sees the current weights)
      ├─ stage not open?                inner loader over plan[offset:]
      └─ next micro-batch of the inner loader

Look-ahead exists only inside the inner loader (accelerate's one batch, torch's workers), which ends with the stage:
no batch can be drawn before the decision it depends on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

from dataflex.checkpoint.state import EngineState, Saved
from dataflex.checkpoint_keys.compare import Changes
from dataflex.data.fingerprint import fingerprint
from dataflex.data.origins import Origins
from dataflex.errors import ConfigError, DataFlexError, OneRankError
from dataflex.failures.foreign import foreign, is_foreign
from dataflex.failures.saying import said
from dataflex.mixing.domains import Domains
from dataflex.record.run import hide_secrets
from dataflex.rng import key_seed, rng_scope
from dataflex.schedule import Schedule
from dataflex.trainers.engine import log_counters
from dataflex.trainers.engine.epoch import Epoch
from dataflex.trainers.engine.plan_sampler import PlanSampler
from dataflex.trainers.engine.same_run import new_run_id, refuse_another_run, warn_of_other_versions
from dataflex.trainers.engine.ticket_loader import ticket_loader
from dataflex.trainers.engine.unreadable import what_failed
from dataflex.trainers.hooks import passed_by, reads_ahead
from dataflex.trainers.host import Host
from dataflex.trainers.losses.shaper import LossShaper, PlainLoss
from dataflex.trainers.planners.planner import Planner
from dataflex.trainers.progress import RunProgress


class Engine:
    """Serves the stages of a schedule to one Trainer.

    Args:
        trainer: The ``transformers.Trainer``; its state, arguments and pool are read, nothing is changed.
        schedule: The stages.
        planner: Makes each stage's plan.
        component: Kind and name of each component, kept in checkpoints so that a resume with another one is noticed.
        versions: Who provides what in which version; a resume under others is only warned of.
        params: Parameters of the component; likewise.
        data_seed: The seed that rows are drawn by; the run's seed by default.
        loss: Who shapes the loss; its state is kept beside the planner's.
        progress: Keeps the steps done when a row cannot be read; ``None`` if nothing is kept.
        sources: Where the rows of the pool come from, if that is known.
    """

    def __init__(
        self,
        trainer: Host,
        schedule: Schedule,
        planner: Planner,
        component: str,
        versions: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        data_seed: int | None = None,
        *,
        loss: LossShaper | None = None,
        progress: RunProgress | None = None,
        sources: Domains | Origins | None = None,
    ) -> None:
        self.trainer = trainer
        self.data_seed = int(trainer.args.seed) if data_seed is None else data_seed
        self.schedule = schedule
        self.planner = planner
        self.loss: LossShaper = PlainLoss() if loss is None else loss
        self._progress, self._sources = progress, sources
        self.component = component
        self.versions = dict(versions or {})
        self.params = hide_secrets(params or {})
        self.accumulation = int(trainer.args.gradient_accumulation_steps)
        self.global_batch = int(trainer.get_total_train_batch_size(trainer.args))
        self.run_id = new_run_id()
        self.stage = -1
        self.plan: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.plan_start = 0  # optimizer step of the plan's first sample
        self.pool_fingerprint = fingerprint(trainer.train_dataset)
        self.sampler = PlanSampler()
        # An accelerate-wrapped loader is built before the first stage is known; it needs a non-empty sampler.
        self.sampler.serve(np.zeros(self.global_batch, np.int64))
        # Rows of the micro-batches that were fetched and not yet trained on, this rank's share of each.
        self.fetched: deque[npt.NDArray[np.int64]] = deque(maxlen=self.accumulation)
        self.plan_weights: npt.NDArray[np.float64] | None = None  # one for each row of the plan
        self._fetched_weights: deque[npt.NDArray[np.float64] | None] = deque(maxlen=self.accumulation)
        self.restored_step = 0  # of the checkpoint the run goes on from
        self.ended = False  # early, at the checkpoint that was restored
        self.extended = False  # whether this run is longer than the restored one was
        self.has_served = False  # whether the Trainer has asked for a batch
        self._log: Mapping[str, Any] = {}
        self._position: int | None = None  # micro-batches served since step 0, on this rank
        self._stage_end = 0  # position at which the open stage ends
        self._batches: Iterator[Any] | None = None
        self._inner: DataLoader[Any] | None = None
        self._epoch = Epoch(self.global_batch, self.accumulation, 1, self.accumulation, None)

    def bind(self, inner: DataLoader[Any]) -> DataLoader[Any]:
        """Take the stock loader built over :attr:`sampler`; return the loader the Trainer iterates."""
        pool_size = len(self.trainer.train_dataset)
        self._inner, self._batches, self._position = inner, None, None
        self._epoch = Epoch.of(pool_size, self.planner.epoch_samples, self.global_batch, self.accumulation)
        return ticket_loader(
            self.fetch,
            pool_size=pool_size,
            batch_size=self.trainer.args.train_batch_size,
            tickets_per_epoch=self._epoch.tickets,
        )

    def fetch(self, ticket: int) -> Any:
        """Return the micro-batch for ``ticket``, making the next plan first if a boundary has been reached.

        Raises:
            RuntimeError: if the Trainer's loop asks for a batch it should not need yet: continuing would train on
                samples chosen with stale weights.
        """
        step = int(self.trainer.state.global_step)
        if self._log:
            log_counters.write(self.trainer, self._log)
            self._log = {}
        self._position = self._check_position(ticket, step)
        if step >= self.schedule.total or self.ended:  # resumed from the last checkpoint: nothing is left to train on
            self.trainer.control.should_training_stop = True
            raise StopIteration
        if self._batches is None or self._position == self._stage_end:
            self._open_stage(step)
        assert self._batches is not None
        try:
            with rng_scope(), foreign():  # the loader cannot move the training run's generators
                batch = next(self._batches)
        except StopIteration:
            raise
        except Exception as error:
            if not (is_foreign(error) or isinstance(error, DataFlexError)):
                raise
            raise self._unreadable(self._position, error) from error
        if not self.sampler.was_asked:
            raise passed_by(self.trainer, "get_train_dataloader", "the plan of the component would not be trained on")
        self.has_served = True
        at = self._slice_of(self._position)
        self.fetched.append(self.plan[at])
        self._fetched_weights.append(None if self.plan_weights is None else self.plan_weights[at])
        self._position += 1
        return batch

    def _unreadable(self, position: int, error: Exception) -> DataFlexError:
        """What to say when the loader fails at a micro-batch; it reads one ahead."""
        assert self._inner is not None
        ahead = [int(row) for place in (0, 1) for row in self._rows_at(position + place)]
        what, todo = what_failed(self._inner, ahead, error, self._sources)
        after = "."
        if self._progress is not None and self.trainer.accelerator.num_processes == 1:
            after = self._progress.keep(when="Once it is fixed,")
        step = int(self.trainer.state.global_step)
        return OneRankError(f"{what} at step {step}: {said(error)}.{todo}{after.removeprefix('.')}")

    def _rows_at(self, position: int) -> npt.NDArray[np.int64]:
        """Rows of one micro-batch of this rank."""
        return self.plan[self._slice_of(position)]

    def _slice_of(self, position: int) -> slice:
        """Places of a micro-batch of this rank: accelerate deals whole micro-batches out to the ranks in turn."""
        accelerator, size = self.trainer.accelerator, int(self.trainer.args.train_batch_size)
        micro_batch = position - self._epoch.first_position(self.plan_start)
        start = (micro_batch * int(accelerator.num_processes) + int(accelerator.process_index)) * size
        return slice(start, start + size)

    def weights_of_next(self) -> npt.NDArray[np.float64] | None:
        """The plan's weights of the next micro-batch of this rank to train on, once; ``None`` for the stock loss."""
        # None were fetched where a class of the user's passes our loader by, which is told at the step's end.
        return self._fetched_weights.popleft() if self._fetched_weights else None

    def rows_of(self, step: int) -> npt.NDArray[np.int64]:
        """Rows of all ranks, in the order of the plan, of the step after which ``step`` are done."""
        start = (step - 1 - self.plan_start) * self.global_batch
        return self.plan[start : start + self.global_batch]

    def _check_position(self, ticket: int, step: int) -> int:
        start = self._epoch.first_position(step)
        position = start if self._position is None else self._position
        if ticket != position % self._epoch.tickets and ticket == start % self._epoch.tickets:
            position, self._batches = start, None  # the loop began its epoch anew: reopen at this optimizer step
            self.fetched.clear()
            self._fetched_weights.clear()
        if ticket != position % self._epoch.tickets or not start <= position < self._epoch.first_position(step + 1):
            raise reads_ahead(self.trainer, f"asked for ticket {ticket} at step {step}, but {position} is next")
        return position

    def _open_stage(self, step: int) -> None:
        self._close_stage()
        stage = self.schedule.stage_at(step)
        first, end = self.schedule.bounds(stage)
        if stage != self.stage and step != first:
            raise RuntimeError(f"stage {stage} begins at step {first}, but step {step} has no plan for it")
        # A resumed run may be longer than the saved one: a last stage that was cut short is planned anew from here.
        if stage != self.stage or len(self.plan) != self._epoch.samples_between(self.plan_start, end):
            with rng_scope(key_seed(self.data_seed, "plan", step), devices=True):
                self.plan = self.planner.plan(stage, step, (end - step) * self.global_batch)
            self.plan_weights = self.planner.weights
            self.stage, self.plan_start = stage, step
        self.sampler.serve(self.plan[(step - self.plan_start) * self.global_batch :])
        self._stage_end = self._epoch.first_position(end)
        assert self._inner is not None
        with rng_scope(), foreign("the loader of a stage could not be started"):
            self._batches = iter(self._inner)

    def _close_stage(self) -> None:
        # accelerate's loader does its book-keeping at its end: exhaust it, then the same loader can be iterated again.
        if self._batches is not None and self._position == self._stage_end:
            with rng_scope():
                with foreign("the loader of a stage could not be ended"):
                    left = next(self._batches, None)
                if left is not None:
                    raise RuntimeError("the loader of a stage holds more batches than the stage has micro-batches")
        self._batches = None

    def state(self) -> EngineState:
        """The engine's part of a checkpoint at the current optimizer step. Called on every rank."""
        pool = self.trainer.train_dataset
        return EngineState(
            step=int(self.trainer.state.global_step),
            stage=self.stage,
            plan_start=self.plan_start,
            warmup=self.schedule.warmup,
            update=self.schedule.update,
            total=self.schedule.total,
            seed=int(self.trainer.args.seed),
            global_batch=self.global_batch,
            pool_size=len(pool),
            pool_fingerprint=self.pool_fingerprint,
            component=self.component,
            domains=list(self.planner.domains),
            planner={**self.planner.state_dict(), **self.loss.state_dict()},
            log=log_counters.read(self.trainer),
            params=self.params,
            versions=self.versions,
            run_id=self.run_id,
            data_seed=self.data_seed,
        )

    def restore(self, saved: Saved, source: str, changes: Changes | None = None) -> None:
        """Continue from a checkpoint.

        Args:
            saved: The checkpoint.
            source: What messages call it.
            changes: The keys that differ between the run that wrote it and this one.

        Raises:
            ConfigError: when this run differs from the saved one in something that changes the result.
        """
        then, now = saved.engine, self.state()
        refuse_another_run(then, now, self.schedule, changes or Changes(), source)
        self.run_id = then.run_id or self.run_id  # a checkpoint of before has none: the run begins to have one
        self.restored_step = then.step
        self.extended = self.schedule.total > then.total
        if self.trainer.is_world_process_zero():
            warn_of_other_versions(then.versions, self.versions, source)
        self.stage, self.plan_start, self.plan = then.stage, then.plan_start, saved.plan
        self.plan_weights = saved.weights
        try:
            self.planner.load_state_dict(then.planner)
            self.loss.load_state_dict(then.planner)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ConfigError(
                f"cannot resume from {source}: the field 'planner' of its engine.json is damaged "
                f"({type(error).__name__}: {error}). Resume from an earlier checkpoint, or start anew."
            ) from error
        self._log = then.log
