"""Parameters of the mixer ``random``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dataflex import param

LEAST_CONCENTRATION = 1e-6
"""Logarithms are divided by the concentration: far below this, the quotients leave the numbers there are."""


@dataclass(frozen=True)
class RandomParams:
    """What a run file may set under ``component_params``."""

    concentration: float = param(
        1.0,
        "Dirichlet concentration per domain: 1 draws all mixtures alike, more stays near uniform, less near one.",
        at_least=LEAST_CONCENTRATION,
        below=math.inf,
    )
