"""The final model is written, whatever fails between the last step and the end of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from dataflex.trainers.stopping import StopAtSignal

logger = logging.getLogger("dataflex")


@contextlib.contextmanager
def final_model_first(
    trainer: Any, ended: Callable[[], bool] = lambda: True, *, everywhere: bool = False
) -> Iterator[None]:
    """Write the final model before an error of the body ends the run.

    Args:
        trainer: The ``transformers.Trainer``.
        ended: Whether the last step is done, when an error comes.
        everywhere: Whether an error is raised on all ranks. Otherwise DeepSpeed and FSDP, whose ranks write a model
            together, write none: the checkpoints are left.
    """
    try:
        yield
    except Exception:
        written_together = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        if ended() and (everywhere or not written_together):
            with contextlib.suppress(Exception):  # what went wrong first is what is told
                trainer.save_model()
                if trainer.args.should_save:
                    logger.warning("the last step is done; the final model was written to %s.", trainer.args.output_dir)
        raise


def has_ended(trainer: Any, stop: StopAtSignal) -> bool:
    """Whether the last step is done: the last planned one, or the one at which a callback ended the run.

    Args:
        trainer: The ``transformers.Trainer``.
        stop: Whether a signal has ended it, which is no end: the run goes on later.
    """
    planned = 0 < trainer.state.max_steps <= trainer.state.global_step
    return planned or (trainer.control.should_training_stop and not stop.stopped)
