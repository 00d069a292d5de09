"""Losses of the domains averaged over blocks of steps: the points that laws are fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Blocks:
    """Block means of the steps past the warm-up; four bytes a block and domain.

    Args:
        domains: How many.
        length: Steps of a block.
        ignored: Steps before the first block.

    Attributes:
        steps: Steps added so far, ignored ones included.
    """

    def __init__(self, domains: int, length: int, ignored: int) -> None:
        self._length, self._ignored = length, ignored
        self.steps, self._first_step = 0, 0
        self._sums, self._counts = np.zeros(domains), np.zeros(domains, np.int64)
        self._means: npt.NDArray[np.float32] = np.zeros((0, domains), np.float32)

    def add(self, losses_K: Floats, step: int) -> None:
        """Add a step; a domain it did not have has a loss of NaN.

        Args:
            losses_K: Mean token losses.
            step: Optimizer steps of the run, the warm-up included.
        """
        if not self.steps:
            self._first_step = step
        self.steps += 1
        if self.steps <= self._ignored:
            return
        had = np.isfinite(losses_K)
        self._sums = self._sums + np.where(had, losses_K, 0)
        self._counts = self._counts + had
        if (self.steps - self._ignored) % self._length == 0:
            means = np.where(self._counts > 0, self._sums / np.maximum(self._counts, 1), np.nan)
            self._means = np.concatenate([self._means, means[None].astype(np.float32)])
            self._sums, self._counts = np.zeros_like(self._sums), np.zeros_like(self._counts)

    def points(self) -> tuple[Floats, Floats]:
        """Steps of the run in the middle of each whole block, shape ``[N]``, and the means there, shape ``[N, K]``.

        A mean is over the steps that had the domain; NaN where none had.
        """
        begin = self._first_step + self._ignored
        middles = begin + self._length * np.arange(len(self._means)) + (self._length - 1) / 2
        return middles.astype(np.float64), self._means.astype(np.float64)

    def state_dict(self) -> dict[str, Any]:
        """The blocks, and what the open one has come to."""
        return {
            "steps": self.steps,
            "first_step": self._first_step,
            "sums": self._sums,
            "counts": self._counts,
            "means": self._means,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.steps, self._first_step = int(state["steps"]), int(state["first_step"])
        self._sums, self._counts = np.array(state["sums"], np.float64), np.array(state["counts"], np.int64)
        self._means = np.array(state["means"], np.float32).reshape(-1, len(self._sums))
