"""What of a batch is differentiated.

Shapes: B samples of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from dataflex.math.losses import SampleLosses

Reduction = Literal["mean", "sum"]
"""Of a sample's token losses."""


@dataclass(frozen=True)
class Losing:
    """What of a batch is differentiated: each sample's loss, by its own weight.

    Attributes:
        reduction: What of its token losses is a sample's loss.
        weights_B: What each sample's loss is multiplied by, of either sign; ``None`` for 1.
    """

    reduction: Reduction = "mean"
    weights_B: torch.Tensor | None = None

    def of(self, place: int) -> Losing:
        """That of one sample alone."""
        return self if self.weights_B is None else Losing(self.reduction, self.weights_B[place : place + 1])

    def total(self, losses: SampleLosses) -> torch.Tensor:
        """The one number whose gradient is that of all samples."""
        sums_B = losses.sums_B if self.reduction == "sum" else losses.sums_B / losses.counts_B.clamp(min=1)
        return (sums_B if self.weights_B is None else sums_B * self.weights_B.to(sums_B)).sum()
