"""Losses of the first boundary, and which rows were trained on since: what every later boundary compares with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


@dataclass(eq=False)
class Baseline:
    """What a run keeps from its first boundary on.

    Attributes:
        step: The first boundary.
        boundaries: Of the whole run, as of the last one that was passed.
        rows: The candidates, ascending, shape [C].
        losses: Their losses then, fp64, NaN for none, shape [C].
        seen: Rows of the pool that were trained on since, shape [pool].
    """

    step: int
    boundaries: int
    rows: Rows
    losses: npt.NDArray[np.float64]
    seen: npt.NDArray[np.bool_]

    def state_dict(self) -> dict[str, Any]:
        """Arrays and numbers, by name."""
        return {
            "baseline_step": self.step,
            "boundaries": self.boundaries,
            "candidates": self.rows,
            "baseline": self.losses,
            "seen": np.packbits(self.seen),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], pool: int) -> Baseline | None:
        """Take back what :meth:`state_dict` gave; ``None`` for the state of a run before its first boundary."""
        if "baseline" not in state:
            return None
        return cls(
            int(state["baseline_step"]),
            int(state["boundaries"]),
            np.asarray(state["candidates"], np.int64),
            np.asarray(state["baseline"], np.float64),
            np.unpackbits(np.asarray(state["seen"], np.uint8), count=pool).astype(np.bool_),
        )
