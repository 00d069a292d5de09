"""Passes over a model that is spread over ranks: a forward is an exchange, so all ranks run it or none does.

    rank 0   batch ── here? ── forward ── batch ── here? ── forward ── verdict
                        ║         ║                  ║
    rank 1   batch ── here? ── forward ── (row cannot be read) ── verdict

Before each forward ranks tell that they have come to it. A rank that failed before is at its verdict instead, and the
others hear of it there and not in a gather that never ends. What fails inside a forward or a backward cannot be told
any more: that rank says so and ends its process at once, and whatever launched the ranks ends the others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from torch import nn

from dataflex.distributed import all_gather
from dataflex.errors import DataFlexError, reason
from dataflex.spread import is_spread, reshard

logger = logging.getLogger("dataflex")

EXIT_CODE = 2


class Interrupted(Exception):
    """Another rank cannot go on with its pass in this way, and says how: all of them begin again."""


@contextlib.contextmanager
def lockstep(
    model: nn.Module, accelerator: Any, *, alike: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Within, every forward of a spread model is agreed on first. All ranks enter, and run equally many.

    Does nothing where a forward is no exchange: under DDP, ZeRO-1 and 2, and on one process. Afterwards the layers that
    a forward left gathered are given back.

    Args:
        model: The Trainer's own model, unwrapped: what is called. Of its parts none may be called.
        accelerator: The run's accelerator, or ``None``.
        alike: Errors of a forward that all ranks raise together, so that none has to end alone.

    Raises:
        AnotherRankFailed: from a forward, where another rank has failed.
        Interrupted: from a forward, where another rank calls its pass off (:func:`call_off`).
    """
    if not is_collective(model, accelerator):
        yield
        return
    running = [False]

    def agree(module: nn.Module, inputs: Any) -> None:
        try:
            told = [text for text in all_gather("", accelerator) if text]
        except DataFlexError:  # another rank says what happened to it
            raise
        except Exception as error:  # the exchange itself: another rank has ended
            end_alone(error)
        if told:
            raise Interrupted(told[0])
        running[0] = True

    def done(module: nn.Module, inputs: Any, output: Any) -> None:
        running[0] = False

    hooks = (model.register_forward_pre_hook(agree, prepend=True), model.register_forward_hook(done))
    try:
        yield
    except Exception as error:
        if running[0] and not isinstance(error, alike):
            end_alone(error)
        raise
    finally:
        for hook in hooks:
            hook.remove()
        reshard(model)


@contextlib.contextmanager
def collective(model: nn.Module, accelerator: Any) -> Iterator[None]:
    """Code that is an exchange where a forward is one, such as a backward: who fails in it ends alone."""
    try:
        yield
    except Exception as error:
        if is_collective(model, accelerator):
            end_alone(error)
        raise


def call_off(why: str, accelerator: Any) -> str:
    """Tell ranks that are in the same pass, or at its end, why to begin it again; ``""`` if this one need not.

    Returns:
        The first reason of any rank; ``""`` if none has one.
    """
    return next((text for text in all_gather(why, accelerator) if text), "")


def is_collective(model: nn.Module, accelerator: Any) -> bool:
    """Whether a forward is an exchange between ranks."""
    return accelerator is not None and int(accelerator.num_processes) > 1 and is_spread(model)


def end_alone(error: Exception) -> NoReturn:
    """End this process: the others wait for it in an exchange that it cannot take part in any more.

    No exit handlers: they might wait for other ranks too. No checkpoint either, of a model in mid-forward.
    """
    logger.error(
        "rank %s failed while all ranks ran the model together, so all of them end: %s. The last checkpoint is as it "
        "was: resume from it.",
        os.environ.get("RANK", "?"),
        reason(error),
        exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
    )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(EXIT_CODE)
