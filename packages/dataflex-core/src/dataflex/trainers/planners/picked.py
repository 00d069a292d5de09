"""What a selector chose at a boundary, domain by domain, and the numbers that its instances report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.selector import Selection
from dataflex.errors import ComponentError

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Picked:
    """What a selector chose at a boundary.

    Attributes:
        rows: Rows of the pool for each domain, in the selector's order.
        metrics: Numbers for the record.
        scores: Score of every row of the pool, NaN where there is none; ``None`` if nobody gave any.
        weights: For each domain those of its rows, as they stand; ``None`` where nobody gave any.
        seconds: Spent inside the selector.
    """

    rows: list[Rows]
    metrics: dict[str, Any]
    scores: Floats | None
    weights: list[Floats | None]
    seconds: float


def after_passes(passes: Sequence[Rows], weights: Floats | None) -> Floats | None:
    """Weights of a queue: 1 for the rows of whole passes, which nobody chose, and then those of the chosen rows."""
    return None if weights is None else np.concatenate([np.ones(sum(map(len, passes))), weights])


def require_distinct(rows: Rows) -> None:
    """Check rows that are to be kept.

    Raises:
        ComponentError: names one that comes twice.
    """
    values, counts = np.unique(rows, return_counts=True)
    if len(values) < len(rows):
        raise ComponentError(
            f"it returned row {values[counts > 1][0]} more than once, where a share of distinct rows is to be kept"
        )


def reported(names: Sequence[str], found: Sequence[Selection | None]) -> dict[str, Any]:
    """What the instances report: one number a domain, or what the only one says."""
    if len(names) < 2:
        return {} if found[0] is None else dict(found[0].metrics)
    every = [{} if selection is None else dict(selection.metrics) for selection in found]
    told: dict[str, Any] = {}
    for number in dict.fromkeys(name for metrics in every for name in metrics):
        values = [metrics.get(number) for metrics in every]
        if any(isinstance(value, (list, tuple)) for value in values):
            given = zip(names, values, strict=True)
            told |= {f"{number}@{domain}": value for domain, value in given if value is not None}
        else:
            told[number] = values
    return told
