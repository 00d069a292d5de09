"""Weighters set how strongly each sample counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dataflex.components.context import RunContext, logger
from dataflex.components.old_weighter import OldWeighterMethods
from dataflex.components.stateful import Stateful
from dataflex.components.weight_context import StepLosses, WeightContext, WeightedStep

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

__all__ = ["StepLosses", "WeightContext", "WeightedStep", "Weighter", "logger"]


class Weighter(OldWeighterMethods, Stateful):
    """Base class of native weighters, which define :meth:`weights` and leave the loss to the framework.

    A class in the style of the design note needs no base class. It defines, in place of ``weights``, one of

    - ``get_weighted_loss(losses, *, ctx, model, inputs)``: reduces mean losses, shape ``[batch]``, with gradient, to a
      scalar that counts as the micro-batch's mean loss;
    - ``training_step(ctx, model, inputs, num_items_in_batch, use_weighter)``: a whole micro-batch, backward included.

    Attributes:
        params: Its parameters; ``None`` for a class that has a constructor of its own.
        context: The run, likewise.
        window: Samples that the normaliser of the weights looks back on, in whole optimizer steps. While it holds fewer
            than 64 of them (or than ``window``, if that is less), weights are computed but the loss is the plain one.
        statistics: ``"window"``; or ``"batch"``, if the weights depend on all samples of the optimizer step they are
            for: :meth:`on_losses` is told of them first, the normaliser is the mean weight of that very step, and
            weights act from the first step on. With accumulation, each step costs forward passes without gradient.
        chunk_tokens: Target tokens whose logits are held in fp32 at one time; ``None`` for the framework's default.
        watches_warmup: Whether :meth:`on_step` is called in the warm-up, too, where all weights are 1.
    """

    params: Any = None
    context: RunContext | None = None
    window: int = 256
    statistics: str = "window"
    chunk_tokens: int | None = None
    watches_warmup: bool = False

    def __init__(self, params: Any = None, context: RunContext | None = None, **runtime: Any) -> None:
        # ``runtime``: what a constructor with ``**kwargs`` is given and, as in dataflex 1.x, hands on.
        self.params, self.context = params, context

    def begin_step(
        self, model: nn.Module, step: int, batches: Sequence[Mapping[str, Any]], rows: Sequence[npt.NDArray[np.int64]]
    ) -> None:
        """Prepare for a step whose samples will be weighed, before its first forward.

        Called past the warm-up, on every rank. A class takes those arguments that it names. The global random
        state is restored afterwards.

        Args:
            model: The unwrapped model; to be left as it was.
            step: Optimizer steps done so far.
            batches: This rank's micro-batches of the step, labels included.
            rows: The rows of the pool in each of them.
        """

    def weights(self, losses_B: torch.Tensor, context: WeightContext) -> torch.Tensor:
        """Weigh the samples of one micro-batch of this rank.

        Called past the warm-up, for each micro-batch with a target token. Weights are relative: the framework divides
        them by their token-weighted mean over the latest steps (or over this one, under ``statistics: batch``). For
        results that do not depend on batch size, accumulation and ranks, the weight of a sample must not depend on the
        others in ``losses_B``: statistics belong into :meth:`on_step`, or into :meth:`on_losses`.

        Args:
            losses_B: Mean loss per target token of each sample, detached, fp32, shape ``[B]``. A packed row has one
                entry for each sample in it, where the batch tells them apart.
            context: More about the micro-batch.

        Returns:
            Weights, shape ``[B]``: finite and not negative. A gradient they may carry is not followed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define weights()")

    def on_losses(self, losses: StepLosses) -> None:
        """See all samples of a step before any is weighed, on every rank. Only called under ``statistics: batch``."""

    def on_step(self, stats: WeightedStep) -> None:
        """Observe an optimizer step, on every rank: past the warm-up, unless :attr:`watches_warmup` is set."""
