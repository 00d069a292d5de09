"""Where components see the losses of single samples: inside the Trainer's own forward pass.

    training_step ── rows of the micro-batch (engine) ──┐
    compute_loss  ── stock loss and outputs ────────────┼──> tally.add(rows, losses per sample)
                                                        │
    the loss that is trained on is the stock one, untouched

Only while a training step runs, and only for runs whose component asked for it: evaluation and all other runs go
through stock code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dataflex.errors import ComponentError
from dataflex.math.losses import SampleLosses, output_logits, sample_losses


class Tally(Protocol):
    """Collects the losses of micro-batches."""

    def add(self, rows_B: npt.NDArray[np.int64], losses: SampleLosses) -> None:
        """Add one micro-batch of this rank."""


class LossSeam:
    """Shows each training micro-batch's losses to a tally.

    Args:
        tally: Told of every micro-batch.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._rows_B: npt.NDArray[np.int64] | None = None

    @property
    def watching(self) -> bool:
        """Whether a training step is under way."""
        return self._rows_B is not None

    @contextlib.contextmanager
    def micro_batch(self, rows_B: npt.NDArray[np.int64]) -> Iterator[None]:
        """Watch the loss computed in this block: that of the pool's rows ``rows_B``."""
        self._rows_B = rows_B
        try:
            yield
        finally:
            self._rows_B = None

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the stock ``compute_loss`` and look at what the model returned."""
        labels = inputs.get("labels")  # stock code may pop them
        loss, outputs = stock(model, inputs, *args, **{**kwargs, "return_outputs": True})
        self.observe(labels, outputs, model)
        return (loss, outputs) if kwargs.get("return_outputs") else loss

    def observe(self, labels_BT: Any, outputs: Any, model: Any) -> None:
        """Take the losses of the current micro-batch from the model's outputs, without gradient.

        Raises:
            ComponentError: when there are no labels or logits, or not one row of them for each sample.
        """
        rows_B = self._rows_B
        assert rows_B is not None
        if not isinstance(labels_BT, torch.Tensor):
            raise ComponentError("the batches hold no labels, so the losses of their samples cannot be told apart.")
        if len(labels_BT) != len(rows_B):
            raise ComponentError(
                f"the collator made {len(labels_BT)} rows of {len(rows_B)} samples; their losses cannot be told apart."
            )
        with torch.no_grad():
            self._tally.add(rows_B, sample_losses(output_logits(outputs, labels_BT, model), labels_BT))
