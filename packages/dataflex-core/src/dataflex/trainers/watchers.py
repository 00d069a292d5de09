"""Callbacks that tell the recorder and the planner what the Trainer does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from dataflex.trainers.recorder import Recorder

if TYPE_CHECKING:
    from dataflex.trainers.planner import ComponentPlanner
    from dataflex.trainers.weight import WeightPlanner


class Logs(TrainerCallback):
    """Writes the Trainer's log down as it grows."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the ranks' clocks together where an entry follows: every rank comes by here, at the same step."""
        if control.should_log or control.should_training_stop:
            self._recorder.clock.meet()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add an entry."""
        self._recorder.logged(int(state.global_step), dict(logs or {}))


class StepEnds(TrainerCallback):
    """Tells the planner that an optimizer step has ended, before a checkpoint of it is written."""

    def __init__(self, planner: ComponentPlanner | WeightPlanner) -> None:
        self._planner = planner

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell it."""
        self._planner.step_end(int(state.global_step))
