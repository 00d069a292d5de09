"""The final model: it is written whatever fails at the end of a run, and a run that left none says so."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint.files import holds_weights
from dataflex.errors import ConfigError
from dataflex.trainers.host import Host
from dataflex.trainers.stopping import StopAtSignal

logger = logging.getLogger("dataflex")

_SHARDS = "pytorch_model_fsdp_0"


@contextlib.contextmanager
def final_model_first(
    trainer: Host, ended: Callable[[], bool] = lambda: True, *, everywhere: bool = False
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
        there = getattr(trainer, "wrote_final_model", False)  # of the last step, while memory holds half of another
        if ended() and not there and (everywhere or not written_together):
            with contextlib.suppress(Exception):  # what went wrong first is what is told
                trainer.save_model()
                if trainer.args.should_save:
                    logger.warning("the last step is done; the final model was written to %s.", trainer.args.output_dir)
        raise


def has_ended(trainer: Host, stop: StopAtSignal) -> bool:
    """Whether the last step is done: the last planned one, or the one at which a callback ended the run.

    Args:
        trainer: The ``transformers.Trainer``.
        stop: Whether a signal has ended it, which is no end: the run goes on later.
    """
    planned = 0 < trainer.state.max_steps <= trainer.state.global_step
    return planned or (trainer.control.should_training_stop and not stop.stopped)


def require_model(folder: Path, output_dir: Path) -> None:
    """Check that a final model was written. Call it on a rank that writes.

    Args:
        folder: Where it should lie.
        output_dir: The run's output directory, with its checkpoints.

    Raises:
        ConfigError: names the last checkpoint, which has the weights.
    """
    if holds_weights(folder):
        return
    last = next(iter(checkpoints.newest_first(output_dir)), None)
    if last is None:
        kept = "There is no checkpoint either, so the weights are lost."
    elif (last / _SHARDS).is_dir():
        kept = f"The last checkpoint is {last}; `accelerate merge-weights {last / _SHARDS} DIR` makes a model of it."
    else:
        kept = f"The last checkpoint is {last}."
    raise ConfigError(f"the run has ended, but no final model was written to {folder}. {kept}")
