"""How often each row of the pool was trained on, from the plans that a run left in its output directory."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError

FOLDER = "decisions"
"""Where results and plans lie in the output directory."""

_NAME = re.compile(r"(step|plan)-(\d{8})(\.[a-z]+)?\.npy")


def plan_name(step: int) -> str:
    """Path of the plan made at ``step``, relative to the output directory."""
    return f"{FOLDER}/plan-{step:08d}.npy"


def result_name(step: int, kind: str = "") -> str:
    """Path of what was decided at ``step``, relative to the output directory.

    Args:
        step: Optimizer steps done.
        kind: Kind of the component in a run with several that order the rows; without it a selector's result is its
            plan as well.
    """
    return f"{FOLDER}/step-{step:08d}{'.' if kind else ''}{kind}.npy"


def forget_from(output_dir: Path, step: int) -> None:
    """Delete results and plans made at or after ``step``, left there by an earlier run or part of one."""
    for path in (output_dir / FOLDER).glob("*.npy"):
        match = _NAME.fullmatch(path.name)
        if match is not None and int(match.group(2)) >= step:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class ServedPlan:
    """The part of a plan that was trained on.

    Attributes:
        step: Optimizer steps done when it was made.
        rows: Rows in training order, all ranks; shape ``[samples]``.
    """

    step: int
    rows: npt.NDArray[np.int64]


def served_plans(output_dir: Path, plans: dict[int, str], *, end: int, global_batch: int) -> Iterator[ServedPlan]:
    """Read plans in the order of steps, each cut where the next begins or where the run has come to.

    Args:
        output_dir: The run's output directory.
        plans: Path of each plan, relative to it, by the step at which it was made.
        end: Optimizer steps done.
        global_batch: Samples of one optimizer step over all ranks.

    Raises:
        ConfigError: naming a file that holds no plan.
    """
    steps = sorted(step for step in plans if step < end)
    for step, until in itertools.pairwise([*steps, end]):
        path = output_dir / plans[step]
        if os.path.isfile(path):
            yield ServedPlan(step, np.array(_rows(path)[: (until - step) * global_batch], np.int64))


def _rows(path: Path) -> npt.NDArray[np.integer]:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} is not a plan ({error}). Move the file away.") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise ConfigError(f"{path} is not a plan: it is not a list of rows. Move the file away.")
    return rows


def find_plans(output_dir: Path, recorded: dict[int, str]) -> dict[int, str]:
    """Paths of all plans by step: those that records name, and the warm-up's, which no record does."""
    found = {
        int(match.group(2)): f"{FOLDER}/{path.name}"
        for path in (output_dir / FOLDER).glob("plan-*.npy")
        if (match := _NAME.fullmatch(path.name)) is not None
    }
    return found | recorded
