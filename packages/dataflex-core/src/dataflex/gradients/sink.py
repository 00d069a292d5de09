"""Who receives the gradients of samples.

Shapes: B samples of a batch, C of them in one piece, n numbers of one parameter.
"""

from __future__ import annotations

from typing import Protocol

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
