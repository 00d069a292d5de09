"""Parameters of the weighter ``adapt``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import param


class Pooling(StrEnum):
    """How the hidden states of a sample's tokens become one vector."""

    POSITION = "position"
    MEAN = "mean"


class Tokens(StrEnum):
    """Which tokens of a sample count."""

    ALL = "all"
    TARGETS = "targets"


class Centre(StrEnum):
    """What a score is compared with."""

    NONE = "none"
    WINDOW = "window"


@dataclass(frozen=True)
class AdaptParams:
    """What a run file may set under ``component_params``."""

    tau: float = param(1.0, "Temperature of the gate sigmoid((score - centre) / tau).", above=0, below=math.inf)
    refresh_steps: int = param(
        50, "Weighted steps after which the eval sets are embedded anew.", aliases=("refresh_interval",), at_least=1
    )
    max_anchors: int | None = param(None, "Most rows of each eval set, drawn once; null: all of them.", at_least=1)
    pooling: Pooling = param(
        Pooling.POSITION, "position: the t-th token of a sample weighs t; mean: all tokens weigh the same."
    )
    tokens: Tokens = param(Tokens.ALL, "all tokens of a sample, or its targets alone.")
    centre: Centre = param(
        Centre.NONE,
        "none: the gate is centred at 0, as in the paper; window: at the mean of the latest 256 scores.",
    )
    clip: float | None = param(None, "Weights above this are cut to it; null: none is.", above=0)
    token_budget: int | None = param(
        None, "Padded tokens of one batch of the eval sets. null: 2048 on a CPU, 16384 elsewhere.", at_least=1
    )
