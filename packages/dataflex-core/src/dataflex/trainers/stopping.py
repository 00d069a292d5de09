"""SIGTERM, as schedulers send it before they take a machine away: finish the step, write a checkpoint, leave.

The first signal only leaves a mark, which is looked at when an optimizer step ends; a later one ends the process at
once, as without us. Several ranks hear of it at different steps, so they agree on one: each :data:`AGREE_EVERY` steps
they add up their marks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger("dataflex")

SAME_SECONDS = 5.0
"""How long another signal counts as the same one: a scheduler tells every process, and torchrun its ranks once more."""

AGREE_EVERY = 10
"""Optimizer steps between two looks at the other ranks' marks: one small exchange in ten steps."""


class Stopped(SystemExit):
    """A run that a signal has stopped after a whole step: its checkpoint is written, so the process ends with code 0.

    Attributes:
        checkpoint: Where to go on from.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(0)
        self.checkpoint = checkpoint


class StopAtSignal(TrainerCallback):
    """Ends training with a checkpoint once any rank has been sent SIGTERM.

    Args:
        accelerator: The run's accelerator.

    Attributes:
        stopped: Whether it has.
    """

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.stopped = False
        self._marked = 0.0  # when
        self._limit: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM for as long as the context lasts; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._mark)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop here, if every rank does."""
        if self._agreed(int(state.global_step)):
            self.stopped = control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the checkpoint: with a limit of 1 the Trainer deletes, as training ends, any but the best one."""
        if self.stopped:
            self._limit, args.save_total_limit = args.save_total_limit, None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the limit back."""
        if self.stopped:
            args.save_total_limit = self._limit

    def _agreed(self, step: int) -> bool:
        if self.accelerator.num_processes == 1:
            return bool(self._marked)
        if step % AGREE_EVERY:
            return False
        import torch

        marks = torch.tensor(float(self._marked > 0), device=self.accelerator.device)
        return bool(self.accelerator.reduce(marks, reduction="sum") > 0)

    def _mark(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._marked and now - self._marked < SAME_SECONDS:
            return
        if self._marked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._marked = now
        if self.accelerator.is_main_process:
            logger.warning("SIGTERM: this step is finished and a checkpoint written; another SIGTERM ends at once.")
