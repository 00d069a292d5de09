"""One run of a study as ``study.json`` has it: what ran, how it ended, its metrics, its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Cost(StrEnum):
    """The units in which a run's cost may be counted."""

    STEPS = "steps"
    SECONDS = "seconds"
    CPU_SECONDS = "cpu_seconds"


class Status(StrEnum):
    """How far a run of a study has come."""

    DONE = "done"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A run.

    Attributes:
        arm: Its arm.
        seed: Its seed.
        length: Its multiple of the study's length T; ``None`` for an arm with a length of its own.
        steps: Optimizer steps done; ``None`` if it is not done.
        status: Whether it is done.
        error: Why it failed, in a sentence; ``""`` if it did not.
        metrics: All numbers of its evaluation; ``None`` for one that is none.
        metric: The study's metric; ``None`` if it has none, or it is no number.
        cost: Training and deciding in each unit; ``None`` where it is not known.
        deciding: The part of it that deciding took.
        seconds: Where the time went: starting, training, deciding, evaluating, saving.
        output_dir: Relative to the study's folder, with slashes.
        fingerprint: What tells its result from that of other keys, data or models.
        shared_cores: Whether it ran beside another run of the study on the same machine.
    """

    arm: str
    seed: int
    length: float | None
    steps: int | None = None
    status: Status = Status.MISSING
    error: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    metric: float | None = None
    cost: Mapping[str, float | None] = field(default_factory=dict)
    deciding: Mapping[str, float | None] = field(default_factory=dict)
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    output_dir: str = ""
    fingerprint: str = ""
    shared_cores: bool = False

    @property
    def name(self) -> str:
        """Arm and length, as folders and tables spell them."""
        return run_name(self.arm, self.length)

    def number(self, metric: str) -> float | None:
        """A metric of a finished run; ``None`` for one that is missing or not finite."""
        value = self.metrics.get(metric) if self.status is Status.DONE else None
        return value if value is not None and math.isfinite(value) else None

    @property
    def value(self) -> float | None:
        """The study's metric of a finished run, if it is a finite number."""
        done = self.status is Status.DONE and self.metric is not None and math.isfinite(self.metric)
        return self.metric if done else None


def run_name(arm: str, length: float | None) -> str:
    """``ARM``, or ``ARM@LENGTH`` for a baseline of another length."""
    return arm if length in (None, 1) else f"{arm}@{length:g}"
