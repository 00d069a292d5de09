"""Parameters of the selector ``loss``. ``focus`` to ``replacement`` mean what they mean in dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import param

LEAST_TEMPERATURE = 1e-6
"""Log weights are divided by the temperature: far below this, the quotients leave the numbers there are."""


@dataclass(frozen=True)
class LossParams:
    """What a run file may set under ``component_params``.

    Raises:
        ValueError: for a value out of range.
    """

    mode: Literal["sample", "top"] = param(
        "sample", "sample: draw at random, the band in focus more often; top: the highest losses, in random order."
    )
    focus: Literal["low", "medium", "high"] = param("high", "Which third of the losses is drawn more often.")
    focus_weight: float = param(5.0, "Weight of a sample in focus; all others have weight 1.")
    quantiles: tuple[float, float] = param((0.33, 0.66), "Where the low band ends and where the high band begins.")
    temperature: float = param(1.0, "Weights are raised to 1/temperature: above 1 evens out, below 1 sharpens.")
    replacement: bool = param(False, "Draw each sample independently, so that one may come several times in a stage.")
    max_candidates: int | None = param(
        None, "Score only so many rows, a fresh random part of the pool at each boundary; null scores all."
    )
    token_budget: int | None = param(
        None,
        "Tokens of one scoring batch, padding included; lower it if scoring runs out of memory. null: 2048 on a CPU, "
        "16384 elsewhere.",
    )

    def __post_init__(self) -> None:
        low, high = self.quantiles
        if not 0 <= low < high <= 1:
            raise ValueError(f"quantiles must be two rising numbers between 0 and 1, not [{low}, {high}]")
        for name in ("focus_weight", "temperature"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.temperature < LEAST_TEMPERATURE:
            raise ValueError(f"temperature must be at least {LEAST_TEMPERATURE}, not {self.temperature}")
        if self.max_candidates is not None and self.max_candidates < 1:
            raise ValueError(f"max_candidates must be at least 1 (or null for all), not {self.max_candidates}")
        if self.token_budget is not None and self.token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, not {self.token_budget}")
        if self.mode == "top" and self.replacement:
            raise ValueError("mode: top ranks the rows, so it cannot draw with replacement: true")
