"""A weighter that does the training step itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from dataflex.components.asking import Asking
from dataflex.components.weighter import Weighter
from dataflex.errors import ComponentError, ConfigError
from dataflex.math.window import StepWindow
from dataflex.trainers.host import Host
from dataflex.trainers.losses.shaper import PlainLoss, Rows
from dataflex.trainers.losses.weight_log import WeightLog


class OwnStep(PlainLoss):
    """A weighter with a ``training_step`` of its own, which then replaces the Trainer's.

    Args:
        host: The Trainer.
        asking: The weighter.
        warmup: Optimizer steps before it is told to weigh.
    """

    def __init__(self, host: Host, asking: Asking, *, warmup: int) -> None:
        self._host, self._asking, self._warmup = host, asking, warmup
        self._window, self._log = StepWindow(Weighter.window, columns=2), WeightLog()

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """Let the component do a micro-batch, warm-up included.

        It gets no ``num_items_in_batch``, so that the loss is a mean and its division by the accumulation steps right.
        """
        step = int(self._host.state.global_step)
        with self._asking.alone(f"step {step}"):
            loss = self._asking.call(
                "training_step",
                ctx=self._host,
                model=model,
                inputs=inputs,
                num_items_in_batch=None,
                use_weighter=step >= self._warmup,
            )
            if not isinstance(loss, torch.Tensor):
                raise ComponentError(
                    f"training_step() returned {type(loss).__name__}; it must return the detached loss"
                )
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Warm-up and step; window and log as other weighters have them, empty."""
        return kept_state(int(self._host.state.global_step), self._warmup, self._window, self._log)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check it against this run."""
        check_warmup(state, self._warmup)


def kept_state(step: int, warmup: int, window: StepWindow, log: WeightLog) -> dict[str, Any]:
    """What is kept of a run with a weighter, as JSON values."""
    return {"step": step, "warmup": warmup, "window": kept_window(window), "log": log.state_dict()}


def kept_window(window: StepWindow) -> dict[str, Any]:
    """A window as JSON values."""
    return {name: array.tolist() for name, array in window.state_dict().items()}


def check_warmup(state: Mapping[str, Any], warmup: int) -> None:
    """Check that the steps that are done were weighted then as they would be now.

    Raises:
        ConfigError: names both warm-ups.
    """
    if state["warmup"] != warmup and min(state["warmup"], warmup) < state["step"]:
        raise ConfigError(
            f"cannot resume at step {state['step']}: warmup_step was {state['warmup']} and is now {warmup}. "
            "Put it back, or start anew in another output_dir."
        )
