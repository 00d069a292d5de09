"""Callbacks that tell the recorder and whoever shapes the loss what the Trainer does."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from dataflex.trainers.losses.shaper import LossShaper
from dataflex.trainers.recording.recorder import Recorder


class Logs(TrainerCallback):
    """Writes the Trainer's log down as it grows."""

    def __init__(self, recorder: Recorder, loss: LossShaper) -> None:
        self._recorder, self._loss = recorder, loss

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the ranks' clocks together where an entry follows: every rank comes by here, at the same step."""
        if control.should_log or control.should_training_stop:
            self._recorder.clock.meet()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add an entry."""
        self._recorder.logged(int(state.global_step), dict(logs or {}), self._loss.log_histogram)


class StepEnds(TrainerCallback):
    """Tells whoever shapes the loss that an optimizer step has ended, before a checkpoint of it is written."""

    def __init__(self, loss: LossShaper) -> None:
        self._loss = loss

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell it."""
        self._loss.step_end(int(state.global_step))
