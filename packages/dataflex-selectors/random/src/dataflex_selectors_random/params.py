"""Parameters of the selector ``random``."""

from __future__ import annotations

from dataclasses import dataclass

from dataflex import param


@dataclass(frozen=True)
class RandomParams:
    """What a run file may set under ``component_params``."""

    replacement: bool = param(
        False, "Draw each sample independently; otherwise no row repeats before all have been drawn."
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )
