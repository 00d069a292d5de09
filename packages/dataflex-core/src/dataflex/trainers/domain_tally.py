"""Token losses per domain, summed over one optimizer step: all micro-batches, all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.mix_context import DomainLosses
from dataflex.data.mixture import MixtureSampler
from dataflex.math.losses import SampleLosses


class DomainTally:
    """Collects what the loss seam sees of each micro-batch.

    Args:
        sampler: Knows the domain of a row.
        accelerator: The run's accelerator.
    """

    def __init__(self, sampler: MixtureSampler, accelerator: Any) -> None:
        self._sampler, self._accelerator = sampler, accelerator
        self._sums_3K: torch.Tensor | None = None

    def add(self, rows_B: npt.NDArray[np.int64], losses: SampleLosses) -> None:
        """Add one micro-batch of this rank."""
        device = losses.sums_B.device
        domains_B = torch.from_numpy(self._sampler.domain_of(rows_B)).to(device)
        # Loss, tokens and samples in one tensor: one reduction a step. fp64 counts exactly and adds in any order.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        values_3B = torch.stack([losses.sums_B, losses.counts_B, losses.counts_B > 0]).to(dtype)
        if self._sums_3K is None:
            self._sums_3K = torch.zeros(3, len(self._sampler.names), dtype=dtype, device=device)
        self._sums_3K.index_add_(1, domains_B, values_3B)

    def take(self) -> DomainLosses:
        """The step's sums over all ranks; begins the next step. Called on every rank."""
        domains = len(self._sampler.names)
        sums_3K = self._sums_3K
        if sums_3K is None:
            sums_3K = torch.zeros(3, domains, dtype=torch.float64, device=self._accelerator.device)
        total = self._accelerator.reduce(sums_3K, reduction="sum").cpu().double().numpy()
        self._sums_3K = None
        return DomainLosses(total[0], total[1].round().astype(np.int64), total[2].round().astype(np.int64))
