"""What came of asking a component for the plan of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dataflex.runs import PartFacts


@dataclass(frozen=True)
class Outcome:
    """What came of asking a component.

    Attributes:
        rows: The plan of the stage: row indices in training order, over all ranks; shape ``[num_samples]``.
        result: What was decided, for the record (the rows, or the proportions).
        metrics: Numbers for the record.
        decided: Whether the component was asked; otherwise there is no decision to record.
        scores: Score of every row of the pool, shape ``[pool]``, NaN where a row was not scored; ``None`` if the
            component gave none.
        weights: Weight of each row of the plan in the loss, shape ``[num_samples]``; ``None`` for the stock loss.
    """

    rows: npt.NDArray[np.int64]
    result: npt.NDArray[np.generic]
    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    decided: bool = True
    scores: npt.NDArray[np.float64] | None = None
    weights: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Made:
    """One of the decisions of a boundary.

    Attributes:
        part: The component that took it.
        outcome: What came of it; its ``rows`` are no plan.
        seconds: Spent inside the component.
    """

    part: PartFacts
    outcome: Outcome
    seconds: float
