"""The second slot of a run: who shapes the loss of training steps. The first is who orders the rows.

get_batch_samples ──> begin_step      the micro-batches of the step, before its first forward
training_step     ──> training_step   each micro-batch
compute_loss      ──> compute_loss    its loss
on_step_end       ──> step_end        before a checkpoint of the step is written
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Rows = npt.NDArray[np.int64]
Batches = Sequence[Mapping[str, Any]]


class LossShaper(Protocol):
    """Looks at the loss of training steps, or changes it.

    Attributes:
        sees_steps: Whether it is to be told when a step ends.
        places_B: Weights of the rows of the micro-batch under way, by their places in the plan; ``None`` in a stage
            without. Who puts a loss function of its own in place multiplies with them.
    """

    sees_steps: bool
    places_B: torch.Tensor | None

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Take this rank's micro-batches of the next step, and their rows of the pool. Called on every rank."""

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """Do one micro-batch, backward included; return its loss.

        Args:
            stock: The Trainer's own ``training_step`` of this micro-batch.
            model: As the Trainer calls it.
            inputs: The micro-batch.
            rows: Gives its rows of the pool, once.
        """

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of one micro-batch; ``stock`` is the Trainer's ``compute_loss``."""

    def step_end(self, step: int) -> None:
        """Note that an optimizer step has ended; ``step`` of them are done."""

    def resumed(self) -> None:
        """Tell the component what it was not told before the checkpoint that the run goes on from."""

    def finish(self, step: int) -> None:
        """Note the end of the run, after ``step`` steps."""

    def log_values(self) -> Mapping[str, float]:
        """Numbers that stand beside the training loss in the Trainer's log."""

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """A histogram to record with them: ``edges`` and ``counts``; empty if there is none."""

    def state_dict(self) -> dict[str, Any]:
        """What must be remembered across a resume, as JSON values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; ``state`` may hold more."""


class PlainLoss:
    """The stock loss, which nobody looks at."""

    sees_steps = False
    places_B: torch.Tensor | None = None

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Nothing."""

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """The Trainer's own."""
        return stock()

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own."""
        return stock(model, inputs, *args, **kwargs)

    def step_end(self, step: int) -> None:
        """Nothing."""

    def resumed(self) -> None:
        """Nothing."""

    def finish(self, step: int) -> None:
        """Nothing."""

    def log_values(self) -> Mapping[str, float]:
        """None."""
        return {}

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """None."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""
