"""The sampler the stock data loader is built on: it serves whatever plan is set when iteration starts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

_AT_ONCE = 4096  # rows turned into Python numbers together: a plan may have millions


class PlanSampler(Sampler[int]):
    """Serves rows of the current stage's plan, from ``start`` on.

    It lives in the main process: loader workers are sent row indices and never see stages.

    Attributes:
        was_asked: Whether anybody has begun to read its rows.
    """

    def __init__(self) -> None:
        self._rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.was_asked = False

    def serve(self, rows: npt.NDArray[np.int64]) -> None:
        """Set the rows, over all ranks and in order, that the next ``iter()`` yields."""
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        self.was_asked = True
        for start in range(0, len(self._rows), _AT_ONCE):
            yield from self._rows[start : start + _AT_ONCE].tolist()
