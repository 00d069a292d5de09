"""Parameters of the selector ``influence``. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param
from dataflex.scoring.embedding_params import EmbeddingParams

LEAST_TEMPERATURE = 1e-6
"""Scores are divided by the temperature: far below this, the quotients leave the numbers there are."""

LEAST_LABELS = 32
"""With fewer labels a stage is drawn at random."""


@dataclass(frozen=True)
class InfluenceParams(EmbeddingParams):
    """What a run file may set under ``component_params``; those of embeddings count with ``features: embedding`` only.

    Raises:
        ConfigError: for values that do not go together.
    """

    features: Literal["counts", "embedding"] = param(
        "counts",
        "What labels are predicted from. counts: ln(1 + count) of the row's token ids modulo buckets; embedding: the "
        "row's embedding.",
    )
    buckets: int = param(1024, "Of counts: numbers that token ids are folded into.", at_least=2, at_most=65536)
    ridge: float = param(0.3, "Penalty of the ridge regression.", above=0, below=math.inf)
    max_labels: int = param(4096, "Labels that are kept, the newest; fitting takes their number cubed.", at_least=32)
    max_validation: int | None = param(
        32, "Rows of each target that the direction is made of, drawn once; null takes all.", at_least=1
    )
    refresh: int | None = param(
        None,
        "Make the direction anew every so many steps, at two passes over those rows each time; null makes it once, as "
        "training begins.",
        at_least=1,
    )
    preconditioner: Literal["sgd", "linear"] = param(
        "sgd",
        "sgd: labels are mean cosines; linear: the direction is divided by Adam's denominator of the moment "
        "it is made, which needs refresh.",
    )
    exact_gradients: bool = param(
        False,
        "Under full fine-tuning, keep the stock product for every weight's gradient instead of the sum of the "
        "rows' own, which is cheaper and differs in rounding. Adapters keep it anyway.",
    )
    aggregate: Literal["max", "mean", "round_robin"] = param(
        "max",
        "How scores for several targets (eval sets) become one ranking: the highest, the mean, or each target's best "
        "in turn.",
    )
    mode: Literal["top_k", "sample"] = param(
        "top_k", "top_k: the highest scores, in random order; sample: draw at random, high scores more often."
    )
    temperature: float = param(
        0.5,
        "Of mode: sample, in standard deviations of the scores; lower stays closer to top_k.",
        at_least=LEAST_TEMPERATURE,
        below=math.inf,
    )
    share: float = param(
        1.0,
        "Part of each stage that is chosen by score; the rest is drawn uniformly from the other rows.",
        at_least=0,
        at_most=1,
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "sample" and self.aggregate == "round_robin":
            raise ConfigError("aggregate: round_robin takes the best in turn; mode: sample needs max or mean.")
        if self.preconditioner == "linear" and self.refresh is None:
            raise ConfigError(
                "preconditioner: linear reads Adam's moments when the direction is made, and with refresh: null it is "
                "made before the first step, when there are none. Set refresh, below warmup_step."
            )
