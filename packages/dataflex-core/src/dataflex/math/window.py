"""A running window over optimizer steps that does not depend on how a step was cut into micro-batches and ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class StepWindow:
    """The samples of the latest optimizer steps: as few whole steps as hold at least ``samples`` of them.

    Steps are never cut, so the content does not depend on the order of the samples within a step.

    Args:
        samples: How many to look back on, at least 1.
        columns: Numbers kept of each sample.
    """

    def __init__(self, samples: int, columns: int) -> None:
        if samples < 1:
            raise ValueError(f"a window holds at least 1 sample, not {samples}")
        self.samples, self.columns = samples, columns
        self._steps: deque[npt.NDArray[np.float64]] = deque()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def add_step(self, values: npt.ArrayLike) -> None:
        """Add the samples of a step, shape ``[n, columns]``; drop the steps that are no longer needed."""
        array = np.asarray(values, dtype=np.float64).reshape(-1, self.columns)
        if not len(array):
            return
        self._steps.append(array)
        self._held += len(array)
        while self._held - len(self._steps[0]) >= self.samples:
            self._held -= len(self._steps.popleft())

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """All samples held, oldest step first, shape ``[len(self), columns]``."""
        return np.concatenate([np.zeros((0, self.columns)), *self._steps])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples of each step held, oldest first; their sum is ``len(self)``."""
        return np.array([len(step) for step in self._steps], dtype=np.int64)

    def state_dict(self) -> dict[str, Any]:
        """The window as arrays: ``values`` and the number of samples of each step, ``lengths``."""
        return {"values": self.values, "lengths": self.lengths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; it holds as much as it held then until the next step is added."""
        values = np.asarray(state["values"], dtype=np.float64).reshape(-1, self.columns)
        lengths = np.asarray(state["lengths"], dtype=np.int64)
        self._steps = deque(np.split(values, np.cumsum(lengths)[:-1])) if len(lengths) else deque()
        self._held = len(values)
