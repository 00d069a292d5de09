"""Parameters of the mixer ``loss``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dataflex import param

LEAST_TEMPERATURE = 1e-6
"""Losses are divided by the temperature: far below this, the quotients leave the numbers there are."""


@dataclass(frozen=True)
class LossParams:
    """What a run file may set under ``component_params``."""

    temperature: float = param(
        1.0,
        "Of the softmax, in nats: small values pick the hardest domain, large ones stay near uniform.",
        at_least=LEAST_TEMPERATURE,
        below=math.inf,
    )
    floor: float = param(
        0.02, "Least proportion of every domain; 1 over the number of domains makes all alike.", at_least=0, at_most=1
    )
    ema: float = param(
        0.0, "Share of the earlier losses in the ones compared: 0 looks at the last stage alone.", at_least=0, below=1
    )
