"""Parameters of the mixer ``ado``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dataflex import ConfigError, param

BLOCKS = 20
"""Blocks that the first fit has to have at least: three numbers are fitted to them."""


class Prior(StrEnum):
    """What the speeds of learning are multiplied by."""

    PROPORTIONS = "proportions"
    TOKENS = "tokens"


@dataclass(frozen=True)
class AdoParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: when the first fit would have too few blocks.
    """

    prior: Prior = param(
        Prior.PROPORTIONS,
        "What speeds are multiplied by: the run's first proportions, or the domains' shares of the tokens.",
    )
    credit: float = param(
        0.5,
        "Power of a domain's recent share: 0 believes that each domain is learned from all rows.",
        at_least=0,
        at_most=1,
    )
    smoothing: float = param(0.1, "Share of the latest step in the recent shares.", above=0, at_most=1)
    blend: float = param(
        0.1, "Share of the present aim in the proportions; the rest is the mean of all aims so far.", above=0, at_most=1
    )
    least: float = param(0.01, "Least share of a domain in the aim.", at_least=0, below=1)
    block_steps: int = param(10, "Steps whose losses are averaged to one point of a fit.", at_least=1)
    ignore_steps: int = param(500, "Steps past the warm-up that no fit looks at.", at_least=0)
    first_fit: int = param(1000, "Steps past the warm-up at which the laws are fitted first.", at_least=1)
    refit_steps: int = param(1000, "Steps between two fits.", at_least=1)

    def __post_init__(self) -> None:
        if self.first_fit - self.ignore_steps < BLOCKS * self.block_steps:
            raise ConfigError(
                f"first_fit: {self.first_fit} comes {self.first_fit - self.ignore_steps} steps after ignore_steps: "
                f"{self.ignore_steps}, and {BLOCKS} blocks of block_steps: {self.block_steps} are needed to fit three "
                f"numbers. Set first_fit to {self.ignore_steps + BLOCKS * self.block_steps} or more, or lower both."
            )
