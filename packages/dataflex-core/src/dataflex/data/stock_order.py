"""The order in which the stock Trainer goes through a pool, epoch by epoch, as a function of seed and epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import RandomSampler

from dataflex.rng import key_seed, rng_scope


def epoch_samples(pool_size: int, *, batch_size: int, ranks: int, drop_last: bool) -> int:
    """Samples that the ranks together train on in one stock epoch.

    Several ranks get equally many full micro-batches: accelerate begins the epoch's order again to fill them up.

    Args:
        pool_size: Rows of the pool.
        batch_size: Samples of a micro-batch on one rank.
        ranks: Number of processes.
        drop_last: Whether samples that do not fill a micro-batch are left out.
    """
    whole = batch_size * ranks
    if drop_last:
        return pool_size // whole * whole
    return pool_size if ranks == 1 else math.ceil(pool_size / whole) * whole


class StockOrder:
    """Gives each epoch's rows in the stock Trainer's order.

    Args:
        sampler: The stock Trainer's sampler over the pool.
        samples: Of :func:`epoch_samples`.
        seed: The run's seed; used where a sampler draws from the global random state.
        data_seed: The run's ``data_seed``, if it has one.
    """

    def __init__(self, sampler: Any, *, samples: int, seed: int, data_seed: int | None) -> None:
        if isinstance(sampler, RandomSampler):  # what accelerate makes of it
            sampler = SeedableRandomSampler(
                sampler.data_source,
                replacement=sampler.replacement,
                num_samples=sampler._num_samples,
                generator=sampler.generator,
                data_seed=data_seed,
            )
        self._sampler, self._seed = sampler, seed
        self.samples = samples

    def epoch(self, number: int) -> npt.NDArray[np.int64]:
        """Rows of epoch ``number`` (from 0), over all ranks; shape ``[samples]``."""
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(number)
        with rng_scope(key_seed(self._seed, "epoch", number)):
            rows = np.fromiter(self._sampler, dtype=np.int64)
        return np.resize(rows, self.samples)
