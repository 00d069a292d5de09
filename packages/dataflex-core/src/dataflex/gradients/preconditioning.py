"""From a sample's gradient to the step Adam would take for it.

Shapes: C samples, n numbers of one parameter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.errors import ComponentError
from dataflex.gradients.moments import AdamMoments, adam_moments
from dataflex.gradients.sink import GradientSink

logger = logging.getLogger("dataflex")

OFFICIAL_BETA1, OFFICIAL_BETA2, OFFICIAL_EPS = 0.9, 0.999, 1e-8
"""Constants of the paper's released code, whatever the run's optimizer has."""


def adam_direction_(grads_Cn: torch.Tensor, moments: AdamMoments, kind: Literal["official", "adam"]) -> torch.Tensor:
    """Turn gradients into Adam steps, in place and up to a positive factor that a cosine does not see.

    The factor has to be the same for all parameters, whose constants, ages and learning rates may differ: ``adam`` has
    only the highest learning rate for one.

    ``official``: ``(b1 m + (1-b1) g) / sqrt(b2 v + (1-b2) g^2 + eps)`` with .9, .999 and 1e-8, as in the released code
    of Xia et al. 2024; divided by ``(1-b1) / sqrt(b2)``.
    ``adam``: ``(b1 m + (1-b1) g) / (1-b1^t) / (sqrt((b2 v + (1-b2) g^2) / (1-b2^t)) + eps)`` for step t, the next one,
    with the optimizer's own constants (Kingma & Ba 2015, algorithm 1), times the learning rate of the parameter's group
    as a share of the highest: LoRA+ moves its B matrices many times as far. Weight decay is left out, which moves the
    weights alike for all samples.

    Args:
        grads_Cn: Gradients of C samples; overwritten.
        moments: The optimizer's moments of this parameter.
        kind: Which formula.
    """
    official = kind == "official"
    beta1, beta2 = (OFFICIAL_BETA1, OFFICIAL_BETA2) if official else (moments.beta1, moments.beta2)
    first_n, second_n = (moment.detach().reshape(-1).float() for moment in (moments.first, moments.second))
    # The moments are used as the optimizer keeps them: few, large operations.
    if official:
        scale_Cn = torch.addcmul(
            second_n + OFFICIAL_EPS / beta2, grads_Cn, grads_Cn, value=(1 - beta2) / beta2
        ).rsqrt_()
        return grads_Cn.add_(first_n, alpha=beta1 / (1 - beta1)).mul_(scale_Cn)
    # The step is (g + b1/(1-b1) m) / (root / factor + eps age).
    age = (1 - beta1 ** (moments.step + 1)) / (1 - beta1)
    square = (1 - beta2 ** (moments.step + 1)) / age**2
    scale_Cn = torch.addcmul(second_n * (beta2 / square), grads_Cn, grads_Cn, value=(1 - beta2) / square)
    scale_Cn = scale_Cn.sqrt_().add_(moments.eps * age)
    step_Cn = grads_Cn.add_(first_n, alpha=beta1 / (1 - beta1)).div_(scale_Cn)
    return step_Cn if moments.rate == 1.0 else step_Cn.mul_(moments.rate)


class PreconditioningSink:
    """Hands Adam steps instead of gradients to another sink."""

    def __init__(
        self, inner: GradientSink, moments: Mapping[str, AdamMoments], kind: Literal["official", "adam"]
    ) -> None:
        self._inner, self._moments, self._kind = inner, moments, kind

    def begin(self, samples: int, device: torch.device) -> None:
        """Begin the inner sink."""
        self._inner.begin(samples, device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Precondition, then hand over."""
        self._inner.take(name, samples, adam_direction_(grads_Cn, self._moments[name], self._kind))

    def finish(self) -> None:
        """Finish the inner sink."""
        self._inner.finish()


@dataclass(frozen=True)
class AdamSteps:
    """The steps that Adam would take for single samples.

    Attributes:
        moments: The optimizer's moments by parameter.
        kind: Which formula, see :func:`adam_direction_`.
    """

    moments: Mapping[str, AdamMoments]
    kind: Literal["official", "adam"]

    def before(self, sink: GradientSink) -> GradientSink:
        """A sink that turns gradients into steps and hands them to another."""
        return PreconditioningSink(sink, self.moments, self.kind)

    def described(self) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
        """What the steps depend on beside the gradients: constants as text, and tensors."""
        for name, memory in self.moments.items():
            constants = f"{memory.step} {memory.beta1} {memory.beta2} {memory.eps} {memory.rate}"
            yield f"{name} {self.kind} {constants}", (memory.first, memory.second)


def adam_steps(
    context: RunContext, parameters: Mapping[str, nn.Parameter], kind: Literal["official", "adam"]
) -> AdamSteps | None:
    """Adam's steps by the run's optimizer; ``None`` where a pool is only scored and no optimizer has stepped.

    Args:
        context: The run.
        parameters: Whose moments; all ranks must ask for the same ones in the same order.
        kind: Which formula.

    Raises:
        ComponentError: when the run has no optimizer, or one without Adam's moments.
    """
    moments = run_moments(context, parameters)
    return None if moments is None else AdamSteps(moments, kind)


def run_moments(context: RunContext, parameters: Mapping[str, nn.Parameter]) -> dict[str, AdamMoments] | None:
    """Moments of the run's optimizer; ``None`` where a pool is only scored and no optimizer has stepped.

    Args:
        context: The run.
        parameters: Whose moments; all ranks must ask for the same ones in the same order.

    Raises:
        ComponentError: when the run has no optimizer, or one without Adam's moments.
    """
    optimizer = context.optimizer()
    if optimizer is None:
        raise ComponentError("the run has no optimizer yet. Without one, set component_params.preconditioner: sgd.")
    if context.scores_only and not optimizer.state:
        if context.rank == 0:
            logger.warning(
                "there is no optimizer state, so candidates are compared by their plain gradients, as with "
                "preconditioner: sgd. For LESS's Adam steps, score a checkpoint that holds its optimizer.pt."
            )
        return None
    return adam_moments(optimizer, parameters)
