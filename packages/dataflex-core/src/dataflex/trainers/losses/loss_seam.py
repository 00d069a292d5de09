"""Where components see the losses of single samples: inside the Trainer's own forward pass.

    training_step ── rows of the micro-batch (engine) ──┐
    compute_loss  ── token losses (step_loss) ──────────┴──> tally.add(rows, losses per sample, scores)

Only for runs whose component asked for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.asking import Asking
from dataflex.components.mix_context import MicroBatch
from dataflex.errors import ComponentError
from dataflex.math.losses import SampleLosses
from dataflex.trainers.hooks import loss_not_asked
from dataflex.trainers.host import Host


class Tally(Protocol):
    """Collects the losses of micro-batches."""

    def add(self, rows_B: npt.NDArray[np.int64], losses: SampleLosses, scores_B: torch.Tensor | None = None) -> None:
        """Add one micro-batch of this rank."""


class LossSeam:
    """Shows each training micro-batch's losses to a tally, and to the mixer that scores tokens.

    Args:
        tally: Told of every micro-batch.
        asking: The mixer, asked for ``token_scores`` if it has them; ``None`` without one.
        step: Optimizer steps done so far.
    """

    def __init__(self, tally: Tally, asking: Asking | None = None, step: Callable[[], int] = lambda: 0) -> None:
        self._tally, self._step = tally, step
        self._scores = asking if asking is not None and asking.defines("token_scores") else None

    def note(
        self,
        rows_B: npt.NDArray[np.int64],
        inputs: Mapping[str, Any],
        losses_BT: torch.Tensor,
        mask_BT: torch.Tensor,
    ) -> None:
        """Hand a micro-batch's token losses, without gradient, to the component and the tally."""
        scores_B = None
        if self._scores is not None:
            with self._scores.alone(f"step {self._step()}"):
                batch = MicroBatch(rows_B, inputs, losses_BT, mask_BT)
                scores_BT = self._scores.call("token_scores", batch=batch)
                scores_B = None if scores_BT is None else _sum_scores(scores_BT, mask_BT)
        self._tally.add(rows_B, SampleLosses(losses_BT.sum(dim=1), mask_BT.sum(dim=1)), scores_B)


@contextlib.contextmanager
def loss_function(trainer: Host, function: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Give the Trainer another ``compute_loss_func`` for the time of a block.

    No longer: the rest of the Trainer asks whether there is one, and would count and scale differently.

    Raises:
        ConfigError: when the block ends without having asked it.
    """
    asked = False

    def ask(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal asked
        asked = True
        return function(*args, **kwargs)

    before, trainer.compute_loss_func = trainer.compute_loss_func, ask
    try:
        yield
    finally:
        trainer.compute_loss_func = before
    if not asked:
        raise loss_not_asked(trainer)


def row_labels(inputs: Mapping[str, Any], rows_B: npt.NDArray[np.int64]) -> torch.Tensor:
    """Labels of a micro-batch, one row for each of the pool's rows.

    Raises:
        ComponentError: when there are none, or the collator made another number of rows.
    """
    labels_BT = inputs.get("labels")
    if not isinstance(labels_BT, torch.Tensor):
        raise ComponentError("the batches hold no labels, so the losses of their samples cannot be told apart.")
    if len(labels_BT) != len(rows_B):
        raise ComponentError(
            f"the collator made {len(labels_BT)} rows of {len(rows_B)} samples; their losses cannot be told apart."
        )
    return labels_BT


def _sum_scores(scores_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    if not isinstance(scores_BT, torch.Tensor):
        raise ComponentError(f"token_scores() returned {type(scores_BT).__name__}; it must return a tensor or None")
    if scores_BT.shape != mask_BT.shape:
        raise ComponentError(
            f"token_scores() returned shape {list(scores_BT.shape)} for losses of shape {list(mask_BT.shape)}"
        )
    return torch.where(mask_BT, scores_BT, 0).sum(dim=1)
