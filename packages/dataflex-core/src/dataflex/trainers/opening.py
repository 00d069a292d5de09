"""The beginning of a run: its parts are opened and, on resume, take up the states of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

from dataflex.checkpoint import damage, state
from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint_keys.compare import Changes
from dataflex.components.context import RunContext
from dataflex.schedule import Schedule
from dataflex.trainers.checkpointing import CheckpointingMixin
from dataflex.trainers.context import run_context
from dataflex.trainers.engine.engine import Engine
from dataflex.trainers.losses.shaper import LossShaper, PlainLoss
from dataflex.trainers.parts import Parts
from dataflex.trainers.progress import RunProgress
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.recording.watchers import Logs, StepEnds
from dataflex.trainers.resume import run_keys
from dataflex.trainers.resume.new_values import refuse_in_advance, told_of
from dataflex.trainers.resume.row_seed import row_seed, row_seed_of, say_ignored
from dataflex.trainers.slots import Opening, Slots, fill_slots
from dataflex.trainers.token_counts import counting_of

logger = logging.getLogger("dataflex")


class OpeningMixin(CheckpointingMixin):
    """Opens the parts of a run, and what serves, shapes and records it."""

    loss_shaper: LossShaper = PlainLoss()
    changes: Changes = Changes()
    _goes_on_from: tuple[Path, state.Saved] | None = None

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

    def _restore(self, checkpoint: Path, saved: state.Saved) -> None:
        unchecked = damage.unchecked(checkpoint)
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

    def _put_others_aside(self, *, anew: bool) -> None:
        """Keep the checkpoints that other runs left in the folder, where no rotation or resume comes by them."""
        if not self.is_world_process_zero():
            return
        aside = checkpoints.put_aside(self._checkpoint_folder().parent, self.running.run_id, anew=anew)
        if aside is not None:
            logger.warning("checkpoints of an earlier run lay in %s: they are in %s now.", self.args.output_dir, aside)
