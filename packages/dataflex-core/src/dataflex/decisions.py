"""The record of what was decided: one line of JSON per boundary, append-only.

A line is a :class:`Decision`; what is too long for a line (the selected indices) lies in an ``.npy`` file
beside the log and is named by ``result_ref``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataflex.record import fields as records
from dataflex.record import files
from dataflex.spec import Kind

SCHEMA = 1
LOG_NAME = "decisions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one component decided at one boundary (schema 1; later schemas only add fields).

    Attributes:
        step: Optimizer steps done when it was taken.
        stage: The stage it opens (boundary ``k`` opens stage ``k + 1``).
        kind: Kind of the component.
        component: Its registered name.
        dist: Distribution (or file) that provides it.
        version: Version of that distribution.
        params: Its bound parameters.
        seconds: Wall-clock seconds the decision took, scoring included.
        seed: The run's seed.
        data_seed: The seed that rows are drawn by; ``None`` in a record of before it could differ from ``seed``.
        result_ref: Path of the result, relative to the log's folder; ``""`` if there is none.
        metrics: What the component or the framework reports: numbers, lists of them, names.
        plan_ref: Path of the stage's rows in training order, relative to the log's folder; ``""`` in older records.
        timing: Parts of ``seconds``: ``component_seconds`` (inside its ``select`` or ``mix``, scoring included) and
            ``planning_seconds`` (all else).
        scores: Summary of the scores the component gave, see :func:`dataflex.math.score_summary.score_summary`;
            empty if it gave none.
        schema: Version of this record.
    """

    step: int
    stage: int
    kind: Kind
    component: str
    dist: str
    version: str
    params: Mapping[str, Any]
    seconds: float
    seed: int
    result_ref: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    plan_ref: str = ""
    timing: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float | list[float]] = field(default_factory=dict)
    data_seed: int | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name in ("step", "stage", "seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name!r} is {getattr(self, name)}, not a finite number of at least 0")

    def to_json(self) -> str:
        """This record as one line of JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, line: str) -> Decision:
        """Read one line; fields of a later schema are ignored.

        Raises:
            ValueError: if a field is missing or of another type, or names a file outside the run's output directory.
        """
        decision = records.from_fields(cls, json.loads(line))
        for name in ("result_ref", "plan_ref"):
            reference = str(getattr(decision, name))
            if files.leads_outside(reference):
                raise ValueError(f"{name!r} is {reference!r}, which leads out of the run's output directory")
        return decision


class DecisionLog:
    """Append-only ``decisions.jsonl`` of one output directory. Only rank 0 writes it."""

    def __init__(self, output_dir: str | Path) -> None:
        self.folder = Path(output_dir)
        self.path = self.folder / LOG_NAME

    def append(self, decision: Decision) -> None:
        """Add one record and force it to disk."""
        files.append_line(self.path, decision.to_json())

    def truncate(self, step: int) -> None:
        """Drop the records of boundaries at or after ``step``: the resumed run takes those again.

        A last line cut short by a kill is dropped as well.
        """
        if self.path.exists():
            files.replace_lines(self.path, [record.to_json() for record in self if record.step < step])

    def __iter__(self) -> Iterator[Decision]:
        return files.read_lines(self.path, Decision.from_json, "a decision record")
