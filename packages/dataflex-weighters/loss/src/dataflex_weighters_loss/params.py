"""Parameters of the weighter ``loss``. ``strategy`` and ``delta`` mean what they mean in dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import param

LEAST_DIVISOR = 1e-6
"""Of ``r`` and ``delta``, which divide: far below this, the quotients leave the numbers there are."""


class Strategy(StrEnum):
    """How a sample's weight follows from its loss and the window's."""

    UNIFORM = "uniform"
    LINUPPER = "linupper"
    QUADRATIC = "quadratic"
    EXTREMES = "extremes"
    TILTED = "tilted"
    CVAR = "cvar"
    TRIM = "trim"
    FOCAL = "focal"


class Statistics(StrEnum):
    """Which losses a sample's loss is compared with."""

    WINDOW = "window"
    BATCH = "batch"


@dataclass(frozen=True)
class LossWeighterParams:
    """What a run file may set under ``component_params``."""

    strategy: Strategy = param(
        Strategy.LINUPPER, "uniform, linupper, quadratic, extremes, tilted, cvar, trim or focal; see the README."
    )
    r: float = param(
        0.4,
        "linupper, quadratic, extremes: temperature; smaller tells losses apart more sharply.",
        at_least=LEAST_DIVISOR,
        below=math.inf,
    )
    delta: float = param(
        1.0,
        "linupper, quadratic, extremes: the window's losses are spread over [-delta, delta].",
        at_least=LEAST_DIVISOR,
        below=math.inf,
    )
    t: float = param(
        -1.0,
        "tilted: weight exp(t * loss); below 0 trims noise, above 0 chases the worst losses.",
        above=-math.inf,
        below=math.inf,
    )
    quantile: float = param(
        0.7, "cvar keeps the losses from this quantile of the window on, trim those up to it.", above=0, below=1
    )
    gamma: float = param(2.0, "focal: weight (1 - exp(-loss))^gamma.", at_least=0, below=math.inf)
    statistics: Statistics = param(
        Statistics.WINDOW,
        "window: losses are compared with those of earlier steps; batch: with all those of their own optimizer step, "
        "over all ranks and micro-batches, as in the paper (with accumulation: one more forward a micro-batch).",
    )
    window: int = param(
        256, "Samples that statistics and normaliser look back on, in whole optimizer steps over all ranks.", at_least=1
    )
    chunk_tokens: int = param(1024, "Target tokens whose logits are held in fp32 at one time.", at_least=1)
