"""Who orders the rows where no component does: the epochs of the stock Trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from dataflex.data.stock_order import StockOrder
from dataflex.trainers.recording.recorder import Recorder


class StockPlanner:
    """Serves the epochs of the stock Trainer, one a stage.

    Args:
        sampler: The Trainer's own.
        recorder: Keeps each epoch.
        samples: Samples of one epoch over all ranks.
        seed: The seed that rows are drawn by.
        data_seed: The Trainer's ``data_seed``.
        global_batch: Samples of one optimizer step over all ranks.

    Attributes:
        domains: None.
        epoch_samples: As given.
        weighs_places: Never.
        weights: None.
    """

    domains: Sequence[str] = ()
    weighs_places = False
    weights: npt.NDArray[np.float64] | None = None

    def __init__(
        self,
        sampler: Sampler[int],
        recorder: Recorder,
        *,
        samples: int,
        seed: int,
        data_seed: int | None,
        global_batch: int,
    ) -> None:
        self.epoch_samples: int | None = samples
        self._order = StockOrder(sampler, samples=samples, seed=seed, data_seed=data_seed)
        self._recorder, self._global_batch = recorder, global_batch
        self._epoch_steps = math.ceil(samples / global_batch)

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """The rest of an epoch from ``step`` on, or its first ``num_samples``; its last step may be a short one."""
        epoch, done = divmod(step, self._epoch_steps)
        start = done * self._global_batch
        rows = self._order.epoch(epoch)[start : start + num_samples]
        self._recorder.served(step, rows)
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Empty: an epoch's order is a function of its seed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self, step: int, stage: int) -> None:
        """Nothing."""

    def log_values(self) -> Mapping[str, float]:
        """None."""
        return {}
