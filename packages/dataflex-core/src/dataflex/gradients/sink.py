"""Who receives the gradients of samples.

Shapes: B samples of a batch, C of them in one piece, n numbers of one parameter.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch


class GradientSink(Protocol):
    """Takes a batch's gradients piece by piece and keeps what it needs of them."""

    def begin(self, samples: int, device: torch.device) -> None:
        """A batch of ``samples`` begins; anything received of an earlier one is complete."""

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Receive one parameter's gradients of some samples.

        Called once for each parameter and sample of a batch, in no fixed order of parameters.

        Args:
            name: The parameter.
            samples: Which samples of the batch.
            grads_Cn: Their gradients in fp32, flattened; the receiver may overwrite them.
        """

    def finish(self) -> None:
        """All gradients of the batch have been received."""


@runtime_checkable
class FactorSink(GradientSink, Protocol):
    """Can do without the gradients of a linear layer's weight where inputs and gradients of outputs are cheaper.

    Shapes: T positions of a sample, i inputs and o outputs of the layer.
    """

    def wants_factors(self, name: str, tokens: int, inputs: int, outputs: int) -> bool:
        """Whether a weight comes by :meth:`take_factors` in a batch of ``tokens`` positions."""

    def take_factors(self, name: str, samples: slice, x_CTi: torch.Tensor, gy_CTo: torch.Tensor) -> None:
        """Receive, in place of the gradients ``gy^T x`` of some samples, what they are made of.

        Args:
            name: The parameter.
            samples: Which samples of the batch.
            x_CTi: The layer's inputs, fp32.
            gy_CTo: The gradients of its outputs, fp32.
        """
