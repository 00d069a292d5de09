"""Static runs: what the Trainer's own load of a checkpoint leaves out is told, and loaded as LlamaFactory loads it."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflex.bridge.rebound import rebound
from dataflex.trainers.loading import conversion_needed

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger("dataflex")


@contextlib.contextmanager
def warned_of() -> Iterator[None]:
    """Warn where the Trainer loads a checkpoint, to resume or as the best model, without converting its weights."""
    from transformers import Trainer

    resume, best = Trainer._load_from_checkpoint, Trainer._load_best_model

    @functools.wraps(resume)
    def warned_resume(trainer: Trainer, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        _warn(trainer, resume_from_checkpoint, "this static run does not go on from the weights of")
        resume(trainer, resume_from_checkpoint, *args, **kwargs)

    @functools.wraps(best)
    def warned_best(trainer: Trainer) -> None:
        _warn(trainer, trainer.state.best_model_checkpoint, "this static run does not end with the weights of")
        best(trainer)

    with rebound(Trainer, resume.__name__, warned_resume), rebound(Trainer, best.__name__, warned_best):
        yield


def _warn(trainer: Trainer, folder: str | None, what: str) -> None:
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or not trainer.is_world_process_zero():
        return  # those load files of their own
    left_out = conversion_needed(trainer.model, Path(str(folder)))
    if left_out:
        logger.warning(
            "%s %s: transformers keeps this model otherwise in memory than in files, and the Trainer, which "
            "LlamaFactory relies on, loads it without converting (%s). What finds no place keeps its value. A dynamic "
            "train_type loads all of it.",
            what,
            folder,
            left_out,
        )
