"""Parameters of the selector ``loss``. ``focus`` to ``replacement`` mean what they mean in dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param
from dataflex.components.screen_params import ScreenParams

LEAST_TEMPERATURE = 1e-6
"""Log weights are divided by the temperature: far below this, the quotients leave the numbers there are."""


@dataclass(frozen=True)
class LossParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for values that do not go together.
    """

    mode: Literal["sample", "top"] = param(
        "sample", "sample: draw at random, the band in focus more often; top: the highest losses, in random order."
    )
    focus: Literal["low", "medium", "high"] = param("high", "Which third of the losses is drawn more often.")
    focus_weight: float = param(5.0, "Weight of a sample in focus; all others have weight 1.", above=0, below=math.inf)
    quantiles: tuple[float, float] = param(
        (0.33, 0.66), "Where the low band ends and where the high band begins.", at_least=0, at_most=1
    )
    temperature: float = param(
        1.0,
        "Weights are raised to 1/temperature: above 1 evens out, below 1 sharpens.",
        at_least=LEAST_TEMPERATURE,
        below=math.inf,
    )
    replacement: bool = param(False, "Draw each sample independently, so that one may come several times in a stage.")
    max_candidates: int | None = param(
        None, "Score only so many rows, a fresh random part of the pool at each boundary; null scores all.", at_least=1
    )
    token_budget: int | None = param(
        None,
        "Tokens of one scoring batch, padding included; lower it if scoring runs out of memory. null: 2048 on a CPU, "
        "16384 elsewhere.",
        at_least=1,
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )
    screen: ScreenParams | None = param(
        None,
        "A cheaper selector whose scores say which rows are scored exactly: {name: lexical, params: {}, survivors: "
        "4000 | auto, worth: null, every: 0, agreement: 64}; null scores all candidates.",
    )

    def __post_init__(self) -> None:
        low, high = self.quantiles
        if low >= high:
            raise ConfigError(f"quantiles must rise, and [{low}, {high}] do not.")
        if self.mode == "top" and self.replacement:
            raise ConfigError("mode: top ranks the rows, so it cannot draw with replacement: true.")
