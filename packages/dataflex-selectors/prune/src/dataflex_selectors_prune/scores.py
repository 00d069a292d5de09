"""What is known of each row: its last loss, or that against a running mean of its losses.

``es`` is Evolved Sampling's weight, ``w = b1 s + (1 - b1) l`` with ``s <- b2 s + (1 - b2) l`` after it; s begins as the
first loss (Cheng et al. 2025, arXiv 2509.23461).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

BETA_1, BETA_2 = 0.2, 0.9


class RowScores:
    """The score of every row.

    Args:
        pool_size: Rows of the pool.
        evolved: Whether the score is ``es`` in place of the last loss.

    Attributes:
        values: Shape ``[pool]``, NaN for a row that no step has trained on.
    """

    def __init__(self, pool_size: int, *, evolved: bool) -> None:
        self.values: Values = np.full(pool_size, np.nan)
        self._running: Values | None = np.full(pool_size, np.nan) if evolved else None

    def see(self, rows: npt.NDArray[np.int64], losses: Values) -> None:
        """Take the losses of a step, in the order of the plan: of a row that comes twice, the later one last.

        Args:
            rows: Shape ``[G]``.
            losses: Mean token losses, shape ``[G]``; one that is not finite tells nothing.
        """
        known = np.isfinite(losses)
        rows, losses = rows[known], losses[known]
        while len(rows):
            _, first = np.unique(rows, return_index=True)
            self._take(rows[first], losses[first])
            rows, losses = np.delete(rows, first), np.delete(losses, first)

    def _take(self, rows: npt.NDArray[np.int64], losses: Values) -> None:
        if self._running is None:
            self.values[rows] = losses
            return
        before = self._running[rows]
        running = np.where(np.isnan(before), losses, before)
        self.values[rows] = BETA_1 * running + (1 - BETA_1) * losses
        self._running[rows] = BETA_2 * running + (1 - BETA_2) * losses

    def state_dict(self) -> dict[str, Any]:
        """The scores, and the running means if there are some."""
        return {"scores": self.values, **({} if self._running is None else {"running": self._running})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back; running means that were not kept begin anew."""
        self.values = np.array(state["scores"], np.float64)
        if self._running is not None and "running" in state:
            self._running = np.array(state["running"], np.float64)
