"""A study as its file asks for it: arms, seeds, lengths, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflex.config.written import Written
from dataflex.study.study_run import Cost


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm as the file has it.

    Attributes:
        name: Its name, and that of its folders.
        keys: The keys that differ from base; unresolved, ``None`` takes a key away.
        written: What words and numbers among them were written as.
        command: The command that trains it in place of ``train``; ``""`` for ``train``.
    """

    name: str
    keys: Mapping[str, Any]
    written: Written
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """A study as it was asked for, defaults filled in.

    Attributes:
        path: The file.
        base: The run file that all arms begin with.
        out: The study's folder.
        baseline: Name of the arm the others are compared with.
        arms: The arms by name, in order.
        seeds: Seeds of the runs.
        metric: The number that is compared.
        lower: Whether lower values of it are better.
        lengths: Multiples of T at which the baseline is trained, rising; 1 is always among them.
        cost: The unit of cost.
        counts_index: Whether an index that a run found ready costs it what making it had cost.
        prepare: Command to run once a seed before its runs; empty for none.
        evaluate: Command whose last JSON object joins a run's numbers; empty for none.
        resolved: The keys as they are recorded.
    """

    path: Path
    base: Path
    out: Path
    baseline: str
    arms: Mapping[str, Arm]
    seeds: Sequence[int]
    metric: str
    lower: bool
    lengths: Sequence[float]
    cost: Cost
    counts_index: bool
    prepare: Sequence[str]
    evaluate: Sequence[str]
    resolved: Mapping[str, Any]
