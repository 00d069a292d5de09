"""Writing a checkpoint that is whole or not one, under any ``transformers.Trainer``.

begin     the mark of an earlier checkpoint of this step goes, and its files; the engine's state is taken
write     the Trainer's own files, on every rank
on_save   callbacks may write into it, as LlamaFactory's do
seal      files.json, engine.json and the mark; older checkpoints are deleted
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from transformers import TrainerCallback

from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint import state
from dataflex.checkpoint.damage import why_damaged
from dataflex.checkpoint_keys.compare import RunKeys
from dataflex.errors import DataFlexError, OneRankError
from dataflex.failures.foreign import foreign, raised_in_core
from dataflex.failures.room import free_space, is_about_room
from dataflex.failures.saying import said
from dataflex.trainers.clock import EVALUATION
from dataflex.trainers.engine.engine import Engine
from dataflex.trainers.hooks import passed_by
from dataflex.trainers.host import DynamicHost
from dataflex.trainers.mixin import TrainerMixin
from dataflex.trainers.parts import Parts
from dataflex.trainers.progress import RunProgress
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.resume import run_keys
from dataflex.trainers.resume.checkpoint import find_checkpoint, why_not_from_its_own
from dataflex.trainers.session import Session
from dataflex.trainers.stopping import StopAtSignal

logger = logging.getLogger("dataflex")
AnyCallback = TypeVar("AnyCallback", bound=TrainerCallback)


@dataclass(frozen=True)
class _Unsealed:
    """A checkpoint whose files are not all written yet.

    Attributes:
        folder: The checkpoint.
        saved: What is to be kept of the engine.
        limit: ``save_total_limit`` of the run.
    """

    folder: Path
    saved: state.Saved
    limit: int | None


class _Seals(TrainerCallback):
    """Declares a checkpoint whole once the callbacks before this one have written into it."""

    def __init__(self, trainer: DynamicHost) -> None:
        self._trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seal it.

        Raises:
            ConfigError: when it did not come by us.
        """
        self._trainer.seal_checkpoint()
        if self._trainer.sealed_step != state.global_step:
            raise passed_by(self._trainer, "_save_checkpoint", "the run could not go on from its checkpoints")


class CheckpointingMixin(TrainerMixin):
    """Writes checkpoints with the engine's part in them, and finds the one to go on from; times evaluations apart."""

    session: Session
    engine: Engine | None = None
    recorder: Recorder
    parts: Parts
    made_under: RunKeys
    sealed_step: int | None = None
    _unsealed: _Unsealed | None = None

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; same arguments as ``transformers.Trainer.evaluate``. Its time is no training time."""
        clock = None if self.engine is None else self.recorder.clock
        with contextlib.nullcontext() if clock is None else clock.spending(EVALUATION), foreign():
            return super().evaluate(*args, **kwargs)

    def keep_progress(self) -> Path | None:
        """Write a checkpoint of the current step unless there is one, so that a failing component loses nothing.

        Returns:
            The checkpoint, or ``None`` before the first step.
        """
        folder: Path = self._checkpoint_folder()
        if self.state.global_step == 0:
            return None
        if why_damaged(folder):
            self._save_checkpoint(self.model_wrapped, trial=None)
            self.seal_checkpoint()
        return folder

    def _save_checkpoint(self, model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        if self.engine is None:
            with foreign():
                return super()._save_checkpoint(model, trial, *args, **kwargs)
        with self._writing_checkpoint():
            result = self._write_checkpoint(model, trial, *args, **kwargs)
        if not self._callbacks_write():
            self.seal_checkpoint()
        return result

    def _write_checkpoint(self, model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the Trainer write its files; what of the engine goes with them is taken before."""
        folder: Path = self._checkpoint_folder()
        engine = self.running
        component = state.round_trip(self._component_state())
        engine_state = engine.state()
        keys = run_keys.to_keep(self.made_under, component)
        self._unsealed = _Unsealed(
            folder,
            state.Saved(
                engine_state,
                engine.plan.copy(),
                component,
                keys,
                None if engine.plan_weights is None else engine.plan_weights.copy(),
            ),
            self.args.save_total_limit,
        )
        if self.args.should_save:
            state.begin(folder)
        self.accelerator.wait_for_everyone()
        self.args.save_total_limit = None  # rotated once this one is whole
        try:
            with foreign("the checkpoint could not be written"):
                return super()._save_checkpoint(model, trial, *args, **kwargs)
        finally:
            self.args.save_total_limit = self._unsealed.limit

    def _component_state(self) -> dict[str, Any]:
        progress = RunProgress(self, self.session.run.facts)
        return self.parts.state_dict(f"step {self.state.global_step}", progress.last_whole)

    @property
    def component(self) -> Any:
        """The first component of the run, once ``train`` has begun; ``None`` before."""
        return None if self.engine is None else self.parts.component

    @property
    def running(self) -> Engine:
        """The engine, while there is one."""
        assert self.engine is not None
        return self.engine

    def seal_checkpoint(self) -> None:
        """Declare the checkpoint that was just written whole, once every rank has written its files; then rotate."""
        unsealed, self._unsealed = self._unsealed, None
        if unsealed is None:
            return
        self.sealed_step = unsealed.saved.engine.step
        with self._writing_checkpoint():
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                state.save(unsealed.folder, unsealed.saved, ranks=int(self.accelerator.num_processes))
                state.mark_complete(unsealed.folder)
                best = self.state.best_model_checkpoint
                keep, run_id = [Path(best)] if best else [], unsealed.saved.engine.run_id
                keep += self._divergence.checkpointed(self, unsealed.folder)
                checkpoints.rotate(unsealed.folder.parent, unsealed.limit, keep, run_id=run_id)

    def _callbacks_write(self) -> bool:
        """Whether a callback may still write into a checkpoint, as LlamaFactory's write processors and value heads."""
        ours, stock = (StopAtSignal, _Seals), TrainerCallback.on_save
        return any(
            getattr(type(callback), "on_save", stock) is not stock and not isinstance(callback, ours)
            for callback in self.callback_handler.callbacks
        )

    @contextlib.contextmanager
    def _writing_checkpoint(self) -> Iterator[None]:
        """Count the time, and say in one sentence that a checkpoint could not be written."""
        with self.recorder.checkpointing():
            try:
                yield
            except DataFlexError:
                raise
            except Exception as error:  # a full disk is told in as many ways as there are libraries that write
                if raised_in_core(error) and not isinstance(error, OSError):
                    raise
                raise OneRankError(self._unwritten(error)) from error

    def _unwritten(self, error: Exception) -> str:
        """What to say of a checkpoint that could not be written: advice about room only where room was the cause."""
        folder: Path = self._checkpoint_folder()
        whole = checkpoints.last_resumable(folder.parent)
        if in_vain := why_not_from_its_own(self.session.run.facts):
            last = f"the run then starts anew: {in_vain}"
        else:
            last = f"then resume from {whole}, the last whole one" if whole else "there is no whole one yet"
        what = f"the checkpoint {folder} was not written"
        if is_about_room(error):
            return f"{what}{free_space(folder.parent)}: {said(error)}. Make room or fix it; {last}."
        return f"{what}: {said(error)}. " + (f"Fix that; {last}." if whole or in_vain else "There is no whole one yet.")

    def _checkpoint_folder(self) -> Path:
        return Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"

    def _checkpoint_to_resume(self, given: str | bool | None) -> Path | None:
        """The checkpoint to start from, after saying which newer ones are not taken."""
        named = isinstance(given, str) and self._names_checkpoint(given)
        found: Path | None
        found, skipped = find_checkpoint(given, Path(self.args.output_dir), named=named)
        if not self.is_world_process_zero():
            return found
        for path, reason in skipped.items():
            logger.warning("not resuming from %s: %s", path, reason)
        if given and found is None:
            logger.warning("no checkpoint to resume from in %s: starting anew.", self.args.output_dir)
        elif found is not None and not named:
            logger.info("resuming from %s", found)
        return found

    def seal_after_callbacks(self) -> None:
        """Let a checkpoint be declared whole after the last callback that may write into it."""
        self.put_callback(_Seals(self))

    def put_callback(self, callback: AnyCallback) -> AnyCallback:
        """Add a callback in the place of that of an earlier ``train()``."""
        self.remove_callback(type(callback))
        self.add_callback(callback)
        return callback

    def _names_checkpoint(self, path: str) -> bool:
        return self.session.names_checkpoint(path)
