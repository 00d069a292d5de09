"""Parameters of the selector ``delta_loss``. ``window_size`` is the name of dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dataflex import param


@dataclass(frozen=True)
class DeltaLossParams:
    """What a run file may set under ``component_params``."""

    window: float = param(
        0.2,
        "Width of the window in the ranking by how far losses have fallen: a part of the rows whose loss did not rise.",
        aliases=("window_size",),
        above=0,
        at_most=1,
    )
    steepness: float = param(
        10.0,
        "How abruptly the window moves, halfway through the run, from the largest drops to the smallest.",
        at_least=1e-3,
        below=math.inf,
    )
    outside_weight: float = param(
        0.025, "Weight of a row outside the window; one inside has weight 1.", above=0, at_most=1
    )
    replacement: bool = param(False, "Draw each sample independently, so that one may come several times in a stage.")
    max_candidates: int | None = param(
        None,
        "Look at only so many rows, drawn once at the first boundary and kept; null: all. A falling loss is known of "
        "rows only that were looked at from the start.",
        at_least=1,
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
