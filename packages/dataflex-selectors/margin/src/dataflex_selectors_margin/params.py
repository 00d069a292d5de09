"""Parameters of the selector ``margin``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param


@dataclass(frozen=True)
class MarginParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for values that do not go together.
    """

    mode: Literal["band", "top", "bottom"] = param(
        "band",
        "band: draw uniformly between the quantiles; top, bottom: the highest or lowest margins, in random order.",
    )
    quantiles: tuple[float, float] = param(
        (0.25, 0.75), "Where the band begins and ends among the margins of the candidates.", at_least=0, at_most=1
    )
    max_candidates: int | None = param(
        None, "Score only so many pairs, a fresh random part of the pool at each boundary; null scores all.", at_least=1
    )
    token_budget: int | None = param(
        None,
        "Tokens of one scoring batch; lower it if scoring runs out of memory. null: 2048 on a CPU, 4096 elsewhere.",
        at_least=1,
    )
    passes: int = param(
        1,
        "How often a stage reads the pairs it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        low, high = self.quantiles
        if low >= high:
            raise ConfigError(f"quantiles must rise, and [{low}, {high}] do not.")
