"""A run as the report sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from dataflex.decisions import Decision
from dataflex.record.run import RunInfo, Sample

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

_MOST = 2**63


@dataclass(frozen=True, eq=False)
class Series:
    """One number over a run.

    Attributes:
        steps: Optimizer steps done, rising; shape ``[n]``.
        values: The number; shape ``[n]``.
    """

    steps: Floats
    values: Floats

    @property
    def last(self) -> float:
        """The newest value."""
        return float(self.values[-1])


@dataclass(frozen=True, eq=False)
class Usage:
    """How much of the pool was trained on.

    Attributes:
        rows_by_times: Rows that were trained on 0, 1, 2, ... times; the last entry holds all above.
        coverage: Share of the pool that was trained on at least once, at the end of each plan.
    """

    rows_by_times: Whole
    coverage: Series


@dataclass(frozen=True, eq=False)
class Histograms:
    """Histograms with the same bins over a run.

    Attributes:
        steps: Optimizer steps done at the end of what each counts; shape ``[n]``.
        edges: Of the bins; shape ``[bins + 1]``.
        counts: Shape ``[n, bins]``.
    """

    steps: Floats
    edges: Floats
    counts: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class RunData:
    """A run, read from its output directory; whatever it did not write is empty.

    Attributes:
        name: What it is called in the report; different for all runs of one report.
        folder: Its output directory.
        info: What ran; ``None`` for a static run or one of an older version.
        decisions: Its decisions, in the order of steps.
        series: Numbers over the run by name; ``dataflex/`` is taken off.
        seconds: Where the time went, by activity.
        samples: Rows to look at, those chosen most first.
        usage: How much of the pool was used, if plans were recorded.
        step: Optimizer steps done, as far as is known.
        weights: Weights of samples over the run, if they were recorded.
    """

    name: str
    folder: Path
    info: RunInfo | None
    decisions: Sequence[Decision]
    series: Mapping[str, Series]
    seconds: Mapping[str, float]
    samples: Sequence[Sample]
    usage: Usage | None
    step: int
    weights: Histograms | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains; empty if they are not known."""
        recorded = self.decisions[-1].metrics.get("domains") if self.decisions else None
        if isinstance(recorded, list):
            return tuple(str(name) for name in recorded)
        return tuple(self.info.domains) if self.info is not None else ()

    @property
    def state(self) -> str:
        """Whether it has ended, in words."""
        if self.info is None:
            return f"step {self.step}"
        if self.info.ending is not None and self.info.ending.ended_by:
            early = f"ended early after {self.info.ending.steps:,} of {self.info.total:,} steps"
            return f"{early}, by {self.info.ending.ended_by}"
        if self.info.ending is not None:
            return f"ended after {self.info.ending.steps:,} steps"
        return f"step {self.step:,} of {self.info.total:,}: still running, or stopped early"

    @property
    def boundaries(self) -> Sequence[Decision]:
        """The decision that opened each stage, the last one where several components took one.

        A mixer may leave one more record at the end of its run, which is none of them.
        """
        last = list({each.step: each for each in self.decisions}.values())
        if self.info is None:
            return last
        end = self.info.total if self.info.ending is None else self.info.ending.steps
        return [each for each in last if each.step < end]

    @property
    def training_loss(self) -> Series | None:
        """The loss of what was trained on, comparable between runs: unweighted where a weighter weighed it."""
        logged, unweighted = self.series.get("loss"), self.series.get("unweighted_loss")
        if logged is None or unweighted is None:
            return logged
        plain = dict(zip(unweighted.steps, unweighted.values, strict=True))
        return Series(
            logged.steps,
            np.array([plain.get(step, value) for step, value in zip(logged.steps, logged.values, strict=True)]),
        )

    def over_decisions(self, name: str) -> Series | None:
        """A metric of the decisions that is one number; ``None`` if none has it."""
        pairs = [(each.step, value) for each in self.decisions if is_number(value := each.metrics.get(name))]
        return series(pairs) if pairs else None

    def over_domains(self, name: str) -> tuple[Floats, Floats] | None:
        """A metric that has one number for each domain.

        Returns:
            Steps, shape ``[n]``, and values, shape ``[n, domains]``, NaN where unknown; ``None`` if none has it.
        """
        found = [
            (each.step, values)
            for each in self.decisions
            if isinstance(values := each.metrics.get(name), list)
            and len(values) == len(self.domains)
            and all(value is None or is_number(value) for value in values)
        ]
        if not found or not self.domains:
            return None
        steps, shares = zip(*found, strict=True)
        return np.array(steps, np.float64), np.array(shares, np.float64)


def series(pairs: Sequence[tuple[int, float]]) -> Series:
    """A series from (step, value)."""
    steps, values = zip(*pairs, strict=True)
    return Series(np.array(steps, np.float64), np.array(values, np.float64))


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a recorded value can be drawn."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _MOST
    return isinstance(value, float)
