"""Token losses per domain, summed over one optimizer step: all micro-batches, all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.mix_context import DomainLosses
from dataflex.math.losses import SampleLosses
from dataflex.mixing.sampler import MixtureSampler


class DomainTally:
    """Collects what the loss seam sees of each micro-batch.

    Args:
        sampler: Knows the domain of a row.
        accelerator: The run's accelerator.
    """

    def __init__(self, sampler: MixtureSampler, accelerator: Any) -> None:
        self._sampler, self._accelerator = sampler, accelerator
        self._sums_4K: torch.Tensor | None = None

    def add(self, rows_B: npt.NDArray[np.int64], losses: SampleLosses, scores_B: torch.Tensor | None = None) -> None:
        """Add one micro-batch of this rank: its losses and, where a component made some, its scores."""
        device = losses.sums_B.device
        # All four in one tensor: one reduction a step. fp64 counts exactly and adds in any order.
        dtype = sum_dtype(device)
        scores_B = torch.zeros_like(losses.sums_B) if scores_B is None else scores_B
        values_4B = torch.stack([losses.sums_B, losses.counts_B, losses.counts_B > 0, scores_B]).to(dtype)
        if self._sums_4K is None:
            self._sums_4K = torch.zeros(4, len(self._sampler.names), dtype=dtype, device=device)
        self._sums_4K.index_add_(1, self.domains(rows_B, device), values_4B)

    def domains(self, rows_B: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
        """Domain of each row, shape [B]."""
        return torch.from_numpy(self._sampler.domain_of(rows_B)).to(device)

    def take(self) -> tuple[DomainLosses, npt.NDArray[np.float64]]:
        """The step's losses and scores over all ranks; begins the next step. Called on every rank."""
        sums_4K = self._sums_4K
        if sums_4K is None:
            device = self._accelerator.device
            sums_4K = torch.zeros(4, len(self._sampler.names), dtype=sum_dtype(device), device=device)
        total = self._accelerator.reduce(sums_4K, reduction="sum").cpu().double().numpy()
        self._sums_4K = None
        losses = DomainLosses(total[0], total[1].round().astype(np.int64), total[2].round().astype(np.int64))
        return losses, total[3]


def sum_dtype(device: torch.device) -> torch.dtype:
    """The widest type a device can add in."""
    return torch.float32 if device.type == "mps" else torch.float64
