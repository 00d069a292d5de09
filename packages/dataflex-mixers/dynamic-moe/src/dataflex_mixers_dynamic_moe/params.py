"""Parameters of the mixer ``dynamic_moe``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import param


class Layer(StrEnum):
    """Whose experts are counted."""

    LAST = "last"
    ALL = "all"


class Distance(StrEnum):
    """How far the loads of two domains lie apart."""

    L2 = "l2"


@dataclass(frozen=True)
class DynamicMoeParams:
    """What a run file may set under ``component_params``."""

    eta: float = param(10.0, "Step size: a share is multiplied by exp(eta * distance).", at_least=0, below=math.inf)
    smoothing: float = param(
        0.05, "Share of the uniform proportions mixed in at each boundary.", aliases=("c",), at_least=0, at_most=1
    )
    max_samples: int | None = param(
        320, "Most rows of each domain that are looked at, the same at every boundary; null: all.", at_least=1
    )
    layer: Layer = param(Layer.LAST, "last: the experts of the last layer that has some; all: the mean over layers.")
    distance: Distance = param(Distance.L2, "l2: the Euclidean distance of two domains' shares of the experts.")
    token_budget: int | None = param(
        None, "Padded tokens of one batch. null: 2048 on a CPU, 16384 elsewhere.", at_least=1
    )
