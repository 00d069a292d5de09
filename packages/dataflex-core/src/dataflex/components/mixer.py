"""Mixers set how much of each domain comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext, logger
from dataflex.components.mix_context import DomainLosses, MicroBatch, MixContext, MixtureManager, StepStats
from dataflex.components.stateful import Stateful

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["DomainLosses", "MicroBatch", "MixContext", "Mixer", "StepStats", "logger"]


class Mixer(Stateful):
    """Base class of mixers.

    A native class keeps the inherited constructor, ``(params, context)``, and finds both as attributes. A class in
    the style of the design note calls ``super().__init__(mixture_manager)``.

    Attributes:
        params: Its parameters; ``None`` in the note's style.
        context: The run and its domains; ``None`` in the note's style.
        mixture_manager: The domains, in both styles: ``names``, ``sizes``, ``proportions``.
    """

    params: Any
    context: MixContext
    mixture_manager: MixtureManager

    @overload
    def __init__(self, params: Any, context: MixContext) -> None: ...

    @overload
    def __init__(self, mixture_manager: MixtureManager) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        native = "context" in kwargs or (len(args) == 2 and isinstance(args[1], RunContext))
        names = ("params", "context") if native else ("mixture_manager",)
        given: Mapping[str, Any] = dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or set(given) != set(names):
            raise TypeError(f"{type(self).__name__}: Mixer takes (params, context) or (mixture_manager)")
        self.params = given.get("params")
        self.context = cast(MixContext, given.get("context"))  # None only in the note's style
        self.mixture_manager = self.context.mixture_manager if native else given["mixture_manager"]

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> npt.NDArray[np.float64] | Mapping[str, float]:
        """Set the proportions of the next stage.

        Called at each boundary on every rank; all ranks must return the same. The model arrives unwrapped and must
        leave unchanged. The global random state is restored afterwards.

        Args:
            model: The current model.
            step_id: Optimizer steps done so far.
            kwargs: Run-time facts by name, as in :meth:`dataflex.Selector.select`. A class that does not take
                ``kwargs`` gets only those it names.

        Returns:
            Proportions, shape ``[domains]``, or by domain name: finite, not negative, summing to 1 within 1e-6.
        """
        raise NotImplementedError(f"{type(self).__name__} must define mix()")

    def planned(self, step_id: int) -> npt.NDArray[np.float64] | Mapping[str, float] | None:
        """Say what :meth:`mix` will return at a later boundary, where that is known before training comes to it.

        With such shares an orderer beside the mixer knows how many rows of each domain the run will come to, and
        spreads them evenly over the scores.

        Args:
            step_id: Optimizer steps done by then.

        Returns:
            As :meth:`mix`; ``None``, the default, where it depends on training.
        """
        return None

    def on_step(self, stats: StepStats) -> None:
        """Observe an optimizer step past the warm-up, on every rank. Does nothing by default.

        Needs ``Need.DOMAIN_LOSSES`` in the spec; without it there are no losses to show and this is not called.
        """

    def token_scores(self, batch: MicroBatch) -> torch.Tensor | None:
        """Turn the token losses of a micro-batch into what is to be summed over each domain for :meth:`on_step`.

        Called for every micro-batch past the warm-up, without gradient, on the rank that has it.

        Returns:
            One number per token, shape of ``batch.losses_BT``; those without a target are left out of the sums.
            ``None``, the default, sums nothing.
        """
        return None

    def objective_weights(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Weights of the domains in the loss of the next step: ``sum_d weight_d * (mean token loss of domain d)``.

        Called once a step past the warm-up, on every rank, before its first forward; means are over the tokens of all
        its micro-batches and ranks. The weights are not the sampling proportions.

        Args:
            tokens: Target tokens of each domain in that step; shape ``[domains]``. A class may leave it out.

        Returns:
            Finite, not negative, shape ``[domains]``. Shares of the tokens, ``tokens / tokens.sum()``, are the stock
            loss. ``None``, the default, leaves it untouched.
        """
        return None

    def metrics(self) -> Mapping[str, Any]:
        """Numbers for the record and the Trainer's log: a float each, or a list in the order of the domains."""
        return {}

    def finished(self, step_id: int) -> None:
        """Note the end of the run, on every rank, after its last optimizer step. Does nothing by default."""
