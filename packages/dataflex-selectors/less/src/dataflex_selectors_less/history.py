"""Scores of earlier boundaries, for ``history: true``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """Scores of all boundaries so far, weighted by learning rate.

    Attributes:
        step: The last boundary in it; -1 before the first.
        sums: Weighted sums of cosines, shape [pool, subtasks].
        weights: Sums of weights, shape [pool]; a row that was no candidate, or had no score, gains none.
    """

    step: int = -1
    sums: Scores | None = None
    weights: Scores | None = None

    def plus(self, step: int, rate: float, cosines: Scores) -> History:
        """With one more boundary; a boundary that is in it already (a resumed one) is not counted twice.

        Raises:
            ComponentError: when the number of subtasks is not what it was.
        """
        if step <= self.step:
            return self
        if self.sums is not None and self.sums.shape != cosines.shape:
            raise ComponentError(
                f"history holds scores of shape {self.sums.shape} (rows, subtasks) and there are now {cosines.shape}: "
                "the eval sets have changed since. Put them back, or start anew."
            )
        weights = np.where(np.isfinite(cosines).all(axis=1), max(rate, np.finfo(np.float64).tiny), 0.0)
        gained = np.where(weights[:, None] > 0, cosines, 0.0) * weights[:, None]
        if self.sums is None or self.weights is None:
            return History(step, gained, weights)
        return History(step, self.sums + gained, self.weights + weights)

    def mean(self, rows: Rows) -> Scores:
        """Weighted means of the cosines of some rows; NaN for a row that never had a score."""
        assert self.sums is not None and self.weights is not None
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sums[rows] / self.weights[rows, None])

    def state_dict(self) -> dict[str, Any]:
        """Arrays and the step, by name; empty before the first boundary."""
        if self.sums is None or self.weights is None:
            return {}
        return {"history_step": self.step, "history_sums": self.sums, "history_weights": self.weights}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> History:
        """Take back what :meth:`state_dict` gave."""
        if "history_step" not in state:
            return cls()
        return cls(int(state["history_step"]), np.asarray(state["history_sums"]), np.asarray(state["history_weights"]))
