"""What the framework tells a weighter: about the samples to weigh now, and about a step that has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


def _noted_nowhere(scores_B: torch.Tensor) -> None:
    """What a context made by hand does with a note."""


@dataclass(frozen=True, kw_only=True)
class WeightContext:
    """The micro-batch whose samples are to be weighed.

    Attributes:
        step: Optimizer steps done so far.
        tokens_B: Target tokens of each sample, in the order of the losses; at least 1.
        model: The model as the Trainer calls it.
        inputs: The batch, labels included.
        rows_B: Row of the pool that each sample is of, int64; ``None`` where that is not known.
        domains_B: Index of its domain, int64; ``None`` in a run without a mixer.
        hidden_BTH: The last hidden states (what enters the model's head) of each row of the batch, from its training
            forward, detached and in the run's precision; ``None`` unless the spec has ``Need.HIDDEN_STATES``.
        segments_BT: With them: which of the samples each token is of, as its place in the losses; -1 for padding and
            for samples without a target.
        note: Keeps a finite number of each sample, shape ``[B]``. Those of all ranks and micro-batches come back as
            ``WeightedStep.noted``; their mean and spread stand in the Trainer's log.
    """

    step: int
    tokens_B: torch.Tensor
    model: Any
    inputs: Mapping[str, Any]
    rows_B: npt.NDArray[np.int64] | None = None
    domains_B: npt.NDArray[np.int64] | None = None
    hidden_BTH: torch.Tensor | None = None
    segments_BT: torch.Tensor | None = None
    note: Callable[[torch.Tensor], None] = field(default_factory=lambda: _noted_nowhere)


@dataclass(frozen=True, kw_only=True)
class StepLosses:
    """All samples of the optimizer step to weigh next, of every rank and micro-batch; the same on every rank.

    Attributes:
        step: Optimizer steps done so far.
        losses: Mean loss per target token of each sample, fp64, shape ``[N]``. Samples without a target are left out.
        tokens: Their target tokens, fp64, shape ``[N]``.
    """

    step: int
    losses: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WeightedStep:
    """All samples of one optimizer step, of every rank and micro-batch; the same on every rank.

    Attributes:
        step: Optimizer steps done, this one included.
        losses: Mean loss per target token of each sample, fp64, shape ``[N]``. Samples without a target are left out.
        tokens: Their target tokens, fp64, shape ``[N]``.
        weights: The weights they had in the loss, after normalisation, fp64, shape ``[N]``; 1 where the loss was the
            plain one.
        noted: What ``weights()`` noted of each with ``context.note``, fp64, shape ``[N]``; ``None`` unless it did for
            all of them.
    """

    step: int
    losses: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    noted: npt.NDArray[np.float64] | None = None
