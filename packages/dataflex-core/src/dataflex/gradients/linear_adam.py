"""Adam's step taken as linear in the gradient, so that it is applied once to a direction and never to a row.

``<P g, u> = <g, P u>`` with ``P = 1 / (sqrt(v_hat) + eps)``: what Adam divides by before it has seen the row. Momentum,
which is the same for all rows, and the row's own part of the second moment are left out. A row's score is
``<g, P u> / |g|``, with the length of its raw gradient: without it long gradients win, which noisy short answers have.

The two forms of a layer's share of it, for one row of T tokens, ``x`` [T, i] and ``gy`` [T, o]::

    per row     G = gy^T x;  <G, U>, |G|^2                                            and G is o x i numbers
    streamed    sum_t gy_t . (U x_t);  sum_tt' (x_t . x_t') (gy_t . gy_t')            no G, two T x T tables

Shapes: B rows of a batch, C of them in one piece, T tokens, i inputs and o outputs of a layer, n numbers of one
parameter, S subtasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.gradients.moments import AdamMoments
from dataflex.gradients.preconditioning import run_moments
from dataflex.gradients.sink import GradientSink
from dataflex.gradients.sinks import Directions, ScoreSink


@dataclass(frozen=True)
class LinearAdam:
    """Adam's denominator at one moment, by parameter.

    Attributes:
        moments: The optimizer's moments by parameter.
    """

    moments: Mapping[str, AdamMoments]

    def factor(self, name: str) -> torch.Tensor:
        """P of one parameter, fp32, shape [n].

        With the optimizer's own betas, eps and bias correction; times the learning rate of the parameter's group as a
        share of the highest, as with ``preconditioner: adam``. A parameter that has never had a gradient has no
        second moment to divide by: 0, so that it does not count.
        """
        memory = self.moments[name]
        second_n = memory.second.detach().reshape(-1).float()
        if memory.step < 1:
            return torch.zeros_like(second_n)
        corrected_n = second_n / (1 - memory.beta2**memory.step)
        return memory.rate / (corrected_n.sqrt() + memory.eps)

    def apply_(self, directions: Directions) -> Directions:
        """Make each ``u`` the ``P u`` of the same place, in place."""
        for name, vectors_Sn in directions.items():
            vectors_Sn *= self.factor(name)
        return directions

    def before(self, sink: GradientSink) -> GradientSink:
        """A sink that hands ``P g`` to another: for validation gradients that are projected before they are added."""
        return _ScalingSink(sink, self)

    def described(self) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
        """What the factors depend on: constants as text, and tensors."""
        for name, memory in self.moments.items():
            yield f"{name} linear {memory.step} {memory.beta2} {memory.eps} {memory.rate}", (memory.second,)


def linear_adam(context: RunContext, parameters: Mapping[str, nn.Parameter]) -> LinearAdam | None:
    """Adam's denominator by the run's optimizer; ``None`` where a pool is only scored and no optimizer has stepped.

    Args:
        context: The run.
        parameters: Whose moments; all ranks must ask for the same ones in the same order.

    Raises:
        ComponentError: when the run has no optimizer, or one without Adam's moments.
    """
    moments = run_moments(context, parameters)
    return None if moments is None else LinearAdam(moments)


class LinearScoreSink(ScoreSink):
    """Inner products with ``P u`` and lengths, of each layer in the cheaper form.

    Streamed costs S products of T x i x o and the two tables, T x T x (i + o); per row one product, and passes over
    i x o numbers, which are bound by memory. So it is streamed for one direction where T (i + o) < i o.

    Args:
        directions: ``P u``, by parameter.
        form: ``per_row`` or ``streamed`` for all layers; ``None`` for the cheaper one of each.
    """

    def __init__(self, directions: Directions, form: str | None = None) -> None:
        super().__init__(directions)
        self._form = form

    def wants_factors(self, name: str, tokens: int, inputs: int, outputs: int) -> bool:
        """Whether a weight's rows come as inputs and gradients of outputs instead of gradients."""
        if self._form is not None:
            return self._form == "streamed"
        return self.width == 1 and tokens * (inputs + outputs) < inputs * outputs

    def take_factors(self, name: str, samples: slice, x_CTi: torch.Tensor, gy_CTo: torch.Tensor) -> None:
        """Add one weight's share without making its gradients."""
        inputs, outputs = x_CTi.shape[-1], gy_CTo.shape[-1]
        for vector_n, dots_B in zip(self.directions[name], self.dots_BS.T, strict=True):
            dots_B[samples] += (gy_CTo * (x_CTi @ vector_n.reshape(outputs, inputs).T)).sum(dim=(1, 2))
        products_CTT = torch.bmm(x_CTi, x_CTi.transpose(1, 2)) * torch.bmm(gy_CTo, gy_CTo.transpose(1, 2))
        # A sum of positive and negative terms; rounding may bring a length of 0 below it.
        self.squares_B[samples] += products_CTT.sum(dim=(1, 2), dtype=torch.float64).clamp(min=0)


class _ScalingSink:
    def __init__(self, inner: GradientSink, linear: LinearAdam) -> None:
        self._inner, self._linear = inner, linear

    def begin(self, samples: int, device: torch.device) -> None:
        self._inner.begin(samples, device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        self._inner.take(name, samples, grads_Cn.mul_(self._linear.factor(name)))

    def finish(self) -> None:
        self._inner.finish()
