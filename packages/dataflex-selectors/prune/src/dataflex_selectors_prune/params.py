"""Parameters of the selector ``prune``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dataflex import param


@dataclass(frozen=True)
class PruneParams:
    """What a run file may set under ``component_params``."""

    ratio: float = param(
        0.5,
        "Part of the rows below the mean that a pass leaves out, at random. 0: the selector random, bit for bit.",
        at_least=0,
        below=1,
    )
    until: float = param(
        0.875, "Passes that begin at or after this part of the run's steps read every row.", at_least=0, at_most=1
    )
    score: Literal["loss", "es"] = param(
        "loss", "What is compared with its mean. loss: a row's last loss; es: that against a running mean of its own."
    )
