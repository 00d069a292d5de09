"""The samples that have a weight each: of a micro-batch, and of a step that has ended.

Shapes: U units of a micro-batch (rows, or the samples in packed rows), B rows, T tokens, N units of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.weight_context import WeightedStep
from dataflex.math.losses import SampleLosses


@dataclass(frozen=True)
class Units(SampleLosses):
    """Losses of what has a weight of its own: rows, or the samples in packed rows; those with a target only.

    Attributes:
        places_U: Place within the micro-batch of the row that each is of.
        samples_BT: Which of them each token is of, -1 for none; ``None`` where nobody asked.
    """

    places_U: torch.Tensor
    samples_BT: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class TakenStep:
    """A step that has ended.

    Attributes:
        stats: What the component is told of it.
        asked: The weights the component gave, before they were normalised, fp64, shape ``[N]``.
        domains: Domain of each sample, shape ``[N]``; zeros where there is one alone.
    """

    stats: WeightedStep
    asked: npt.NDArray[np.float64]
    domains: npt.NDArray[np.int64]
