"""What is made of the callbacks of a run that goes on from a checkpoint, before the checkpoint is loaded."""

from __future__ import annotations

import logging
from pathlib import Path

from transformers import TrainerCallback

from dataflex.trainers.engine.engine import Engine
from dataflex.trainers.host import Host
from dataflex.trainers.resume import callback_state
from dataflex.trainers.resume.endings import RunEnd, ended_by
from dataflex.trainers.resume.pissa import keep_initial_adapter

logger = logging.getLogger("dataflex")


def prepare_callbacks(trainer: Host, engine: Engine, end: RunEnd, checkpoint: Path) -> list[TrainerCallback]:
    """See what the callbacks make of a resume, before anything is trained or the record is cut back.

    Args:
        trainer: The ``transformers.Trainer``.
        engine: Restored from the checkpoint; told if the run has ended there.
        end: Of this run; told if it has ended at the checkpoint.
        checkpoint: What the run goes on from.

    Returns:
        Those whose ``on_train_begin`` is left out, as what it stored the first time is there.

    Raises:
        ConfigError: names a callback that would lose what it needs.
    """
    callbacks = trainer.callback_handler.callbacks
    callback_state.refuse_forgetful(callbacks, checkpoint)
    kept = keep_initial_adapter(trainer, checkpoint)
    step, total = engine.restored_step, engine.schedule.total
    by = "" if engine.extended else ended_by(callback_state.saved_states(checkpoint), callbacks)
    if by and step < total:
        end.by, engine.ended = by, True
    if trainer.is_world_process_zero() and (by or step >= total):
        how = f"ended early at step {step} by {by}" if step < total else f"ended at step {step}"
        logger.info("%s %s: nothing is left to train.", trainer.args.output_dir, how)
    return kept
