"""Parameters of the mixer ``loss``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dataflex import ConfigError, param

LEAST_TEMPERATURE = 1e-6
"""Losses are divided by the temperature: far below this, the quotients leave the numbers there are."""


@dataclass(frozen=True)
class LossParams:
    """What a run file may set under ``component_params``."""

    temperature: float = param(
        1.0, "Of the softmax, in nats: small values pick the hardest domain, large ones stay near uniform."
    )
    floor: float = param(0.02, "Least proportion of every domain; 1 over the number of domains makes all alike.")
    ema: float = param(0.0, "Share of the earlier losses in the ones compared: 0 looks at the last stage alone.")

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature: {self.temperature} of mixer 'loss' must be a number above 0.")
        if self.temperature < LEAST_TEMPERATURE:
            raise ConfigError(
                f"temperature: {self.temperature} of mixer 'loss' must be a number of at least {LEAST_TEMPERATURE}."
            )
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"floor: {self.floor} of mixer 'loss' must lie between 0 and 1.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema: {self.ema} of mixer 'loss' must be at least 0 and below 1.")
