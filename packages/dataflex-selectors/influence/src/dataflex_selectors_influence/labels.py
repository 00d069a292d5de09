"""The labels of rows that training made.

Shapes: n labels kept, G rows of a step, S targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Labels:
    """The newest labels, with their rows and directions.

    Args:
        most: How many are kept.

    Attributes:
        rows: Rows of the pool; one that was trained on twice is there twice; shape [n].
        values: Their labels, shape [n, S].
        directions: The number of the direction of each, shape [n].
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows: Rows = np.zeros(0, np.int64)
        self.values: Floats = np.zeros((0, 0))
        self.directions: Rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows_G: Rows, labels_GS: Floats, direction: int) -> None:
        """Add the labels of a step. A row without a finite one has none."""
        known = np.isfinite(labels_GS).all(axis=1)
        values = labels_GS[known]
        self.rows = np.concatenate([self.rows, rows_G[known]])[-self._most :]
        self.values = values if not self.values.size else np.concatenate([self.values, values])
        self.values = self.values[-self._most :]
        numbers = np.full(len(values), direction, np.int64)
        self.directions = np.concatenate([self.directions, numbers])[-self._most :]

    def comparable(self) -> Floats:
        """Labels of one direction as they are; of several, brought to mean 0 and deviation 1 within each and target.

        Returns:
            Shape [n, S]; labels that are all the same within a direction become 0.
        """
        numbers = np.unique(self.directions)
        if len(numbers) < 2:
            return self.values
        found = np.zeros_like(self.values)
        for number in numbers:
            own = self.directions == number
            centred = self.values[own] - self.values[own].mean(axis=0)
            spread_S = centred.std(axis=0)
            rounding_S = 1e-12 * np.abs(self.values[own]).max(axis=0)
            found[own] = np.where(spread_S > rounding_S, centred / np.where(spread_S > 0, spread_S, 1.0), 0.0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Arrays by name."""
        return {"label_rows": self.rows, "label_values": self.values, "label_directions": self.directions}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; of more labels than are kept now, the newest."""
        self.rows = np.asarray(state["label_rows"], np.int64)[-self._most :]
        self.values = np.asarray(state["label_values"], np.float64)[-self._most :]
        self.directions = np.asarray(state["label_directions"], np.int64)[-self._most :]
