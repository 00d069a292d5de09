"""How much of the pool a run has trained on, counted plan by plan: a run that goes on is not counted anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataflex.decisions import Decision
from dataflex.errors import ConfigError
from dataflex.record.plans import ServedPlan, find_plans, served_plans
from dataflex.record.run import RunInfo
from dataflex.report.run import Usage, Whole, series

MOST_TIMES = 9
"""Rows trained on at least this often are counted together."""


class UsageCounter:
    """The usage of one run. A plan that another one follows is read once.

    Args:
        folder: The run's output directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a run went back to a checkpoint."""
        self._counts: Any = np.zeros(0, np.int32)
        self._used, self._next = 0, 0
        self._covered = [(0, 0.0)]

    def count(self, info: RunInfo | None, decisions: Sequence[Decision], step: int) -> Usage | None:
        """The usage up to a step; ``None`` if no plans were recorded.

        Args:
            info: What ran.
            decisions: Its decisions.
            step: Optimizer steps done; not below that of the call before.

        Raises:
            ConfigError: naming a file that holds no plan.
        """
        if info is None or not info.pool:
            return None
        if len(self._counts) != info.pool:
            self.forget()
            self._counts = np.zeros(info.pool, np.int32)
        recorded = {decision.step: decision.plan_ref for decision in decisions if decision.plan_ref}
        plans = {at: path for at, path in find_plans(self._folder, recorded).items() if at >= self._next}
        newest = max((at for at in plans if at < step), default=-1)
        for plan in served_plans(self._folder, plans, end=step, global_batch=info.global_batch):
            rows, times = self._rows(plan, plans[plan.step], info)
            used = self._used + int((self._counts[rows] == 0).sum())
            point = (plan.step + len(plan.rows) // max(info.global_batch, 1), used / info.pool)
            if plan.step == newest:  # more of it may be trained on
                return self._usage(rows, times, point)
            self._counts[rows] += times
            self._used, self._next = used, plan.step + 1
            self._covered.append(point)
        none = np.zeros(0, np.int64)
        return self._usage(none, none) if len(self._covered) > 1 else None

    def _rows(self, plan: ServedPlan, path: str, info: RunInfo) -> tuple[Whole, Any]:
        rows, times = np.unique(plan.rows, return_counts=True)
        if len(rows) and not 0 <= rows[0] <= rows[-1] < info.pool:
            raise ConfigError(
                f"{self._folder / path} names rows that a pool of {info.pool} does not have. Move the file away."
            )
        return rows, times.astype(np.int32)

    def _usage(self, rows: Whole, times: Any, *last: tuple[int, float]) -> Usage:
        self._counts[rows] += times
        by_times = np.bincount(np.minimum(self._counts, MOST_TIMES), minlength=MOST_TIMES + 1)
        self._counts[rows] -= times
        return Usage(by_times, series([*self._covered, *last]))
