"""Numbers about the weights for the Trainer's log, averaged over the steps since the last entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataflex.components.weight_context import WeightedStep
from dataflex.math.weighting import HISTOGRAM_EDGES, effective_samples, weight_histogram

_MEANS = ("unweighted_loss", "weighted_loss", "weight_ess", "weight_mean")


class WeightLog:
    """Collects steps until the Trainer logs.

    The entries are ``weight_ess`` (effective share of the step's samples, 1 if all weigh the same), ``weight_min``,
    ``weight_mean``, ``weight_max``, ``weighted_loss`` and ``unweighted_loss`` (per target token). The weights of all
    steps since the last entry are also counted in a histogram. Of a weighter that notes a number of each sample, their
    mean and standard deviation are ``score_mean`` and ``score_sd``.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._sums: dict[str, float] = {}
        self._min, self._max = math.inf, -math.inf
        self._counts = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
        self._taken: list[int] = []
        self._noted = [0.0, 0.0, 0.0]  # samples, sum, sum of squares

    def add(self, step: WeightedStep) -> None:
        """Add a step; where the weights are not known, only its unweighted loss counts."""
        if not len(step.losses):
            return
        tokens, weights = step.tokens, step.weights
        numbers = {"unweighted_loss": float(step.losses @ tokens / tokens.sum())}
        if not np.isnan(weights).any():
            numbers["weighted_loss"] = float((weights * step.losses) @ tokens / tokens.sum())
            numbers["weight_ess"] = effective_samples(weights) / len(weights)
            numbers["weight_mean"] = float(weights.mean())
            self._counts += weight_histogram(weights)
            self._min, self._max = min(self._min, float(weights.min())), max(self._max, float(weights.max()))
        if step.noted is not None:
            powers = (float((step.noted**power).sum()) for power in range(3))
            self._noted = [held + more for held, more in zip(self._noted, powers, strict=True)]
        self._steps += 1
        for name, value in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The entries, empty if no step was added; begins anew."""
        entries = {name: self._sums[name] / self._steps for name in _MEANS if name in self._sums}
        if "weight_mean" in entries:
            entries |= {"weight_min": self._min, "weight_max": self._max}
            self._taken = self._counts.tolist()
        samples, total, squares = self._noted
        if samples:
            mean = total / samples
            entries |= {"score_mean": mean, "score_sd": math.sqrt(max(squares / samples - mean**2, 0.0))}
        self._steps, self._sums, self._noted = 0, {}, [0.0, 0.0, 0.0]
        self._min, self._max = math.inf, -math.inf
        self._counts[:] = 0
        return entries

    def take_histogram(self) -> list[int]:
        """Counts of the weights of the entries just taken, see :func:`weight_histogram`; empty without any."""
        taken, self._taken = self._taken, []
        return taken

    def state_dict(self) -> dict[str, Any]:
        """What has been collected, as JSON values."""
        limits = [self._min, self._max] if math.isfinite(self._min) else None
        return {
            "steps": self._steps,
            "sums": dict(self._sums),
            "limits": limits,
            "counts": self._counts.tolist(),
            "noted": self._noted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._steps, self._sums = int(state["steps"]), dict(state["sums"])
        self._min, self._max = state["limits"] or (math.inf, -math.inf)
        self._counts[:] = state.get("counts", 0)  # older checkpoints have none
        self._noted = list(state.get("noted", (0.0, 0.0, 0.0)))
