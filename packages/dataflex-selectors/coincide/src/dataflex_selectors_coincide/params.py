"""Parameters of the selector ``coincide``. ``clustering_max_iter`` is a name of dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param
from dataflex.scoring.embedding_params import RUN, PoolEmbeddingParams


@dataclass(frozen=True)
class CoincideParams(PoolEmbeddingParams):
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for the model at each boundary, whose clusters would not be those of the boundary before.
    """

    embedding_layers: int | tuple[int, ...] | None = param(
        None,
        "Which layers: 1 is the first block's, -1 the last one's; of several, the vectors stand side by side. null: "
        "five, at m/6 of the depth.",
        aliases=("embedding_layer",),
    )
    pooling: Literal["mean", "weighted_mean", "last"] = param(
        "mean", "How the tokens of a row become one vector; weighted_mean: the t-th token weighs t."
    )
    center: bool = param(False, "Subtract the mean over the pool's rows.")
    site: Literal["attention", "block"] = param(
        "attention", "What is read of a block: what leaves its attention, or what leaves the block."
    )
    squash: Literal["none", "tanh", "tanh_of_mean"] = param(
        "tanh_of_mean", "tanh of each token before pooling, or of the pooled vector, as in the released code."
    )
    width: int | None = param(
        None, "Project the vectors to so many numbers; null keeps all of every layer.", at_least=4
    )
    num_clusters: int | None = param(None, "Clusters; null: one for every cluster_rows rows.", at_least=1)
    cluster_rows: int = param(64, "Rows of a cluster on average, where num_clusters is not set.", at_least=1)
    temperature: float = param(
        0.1, "How evenly clusters share a stage: above, more evenly.", at_least=1e-3, below=math.inf
    )
    same_above: float = param(
        0.9,
        "Centres with a cosine above this count as the same cluster, and not as another one.",
        at_least=-1,
        at_most=1,
    )
    max_rounds: int = param(25, "Rounds of k-means at most.", aliases=("clustering_max_iter",), at_least=1)
    repeat_rows: bool = param(
        False,
        "Whether each boundary begins anew, and so chooses the same rows. Otherwise each goes on where the last one "
        "stopped; when no row is left, all are free again.",
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_model == RUN:
            raise ConfigError(
                "embedding_model is run, and coincide goes on at each boundary with the clusters of the first one. Set "
                "initial, or the path of a model."
            )
