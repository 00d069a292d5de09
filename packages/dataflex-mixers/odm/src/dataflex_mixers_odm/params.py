"""Parameters of the mixer ``odm``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import param


class Variant(StrEnum):
    """Which of the two published rules is followed."""

    RELEASED = "released"
    PAPER = "paper"


@dataclass(frozen=True)
class OdmParams:
    """What a run file may set under ``component_params``."""

    variant: Variant = param(
        Variant.RELEASED,
        "released: proportional to smoothed exp(loss), as the authors' code; paper: a softmax of smoothed loss over "
        "proportion, which tends to uniform.",
    )
    smoothing: float = param(0.9, "Share of the old estimate at each step.", aliases=("alpha",), at_least=0, below=1)
    reward_scale: float = param(
        1.0, "Factor of the losses under variant: paper; in 1.x 15, whatever was written.", above=0, below=math.inf
    )
    most_loss: float = param(
        12.0, "Losses above it count as it before exp(), under variant: released.", above=0, at_most=500
    )
    floor: float = param(
        0.0, "Least proportion of every domain; 1 over the number of domains makes all alike.", at_least=0, at_most=1
    )
