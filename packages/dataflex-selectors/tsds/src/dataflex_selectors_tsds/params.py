"""Parameters of the selector ``tsds``. ``alpha``, ``C`` and ``sigma`` mean what they mean in the released code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import param
from dataflex.scoring.embedding_params import EmbeddingParams


@dataclass(frozen=True)
class TsdsParams(EmbeddingParams):
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for a list without a layer or target.
    """

    alpha: float = param(
        0.5,
        "How much nearness counts beside spread, from 0 (spread alone) to 1 (each row of the eval set its nearest).",
        at_least=0,
        at_most=1,
    )
    C: float = param(5.0, "What distances are divided by: higher spreads wider.", above=0, below=math.inf)
    sigma: float = param(
        0.75,
        "Rows nearer to each other than this count as partly the same and share their probability; 0: none do.",
        at_least=0,
        below=math.inf,
    )
    draw: Literal["systematic", "independent", "distinct"] = param(
        "systematic",
        "systematic: a row comes as often as its probability says, rounded down or up; independent: each draw by "
        "itself, as in the released code; distinct: no row twice.",
    )
    density_rows: int = param(
        100_000, "Above so many rows of the pool, density is estimated on a random part of so many.", at_least=2
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it draws: so many times fewer are drawn; each pass has its own order.",
        at_least=1,
    )
