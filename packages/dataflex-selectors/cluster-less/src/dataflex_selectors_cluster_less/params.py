"""Parameters of the selector ``cluster_less``. ``gradient_type``, ``cluster_size``, ``samples_per_cluster`` and
``clustering_max_iter`` are names of dataflex 1.x files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import param
from dataflex.scoring.embedding_params import EmbeddingParams


@dataclass(frozen=True)
class ClusterLessParams(EmbeddingParams):
    """What a run file may set under ``component_params``; ``targets`` are those of the gradients.

    Raises:
        ConfigError: for a list without a layer or target.
    """

    num_clusters: int | None = param(None, "Clusters; null: one for every cluster_rows rows.", at_least=1)
    cluster_rows: int = param(
        64, "Rows of a cluster on average, where num_clusters is not set.", aliases=("cluster_size",), at_least=1
    )
    representatives: int = param(
        3, "Rows of each cluster whose gradients are measured.", aliases=("samples_per_cluster",), at_least=1
    )
    representative_strategy: Literal["random", "nearest", "mixed"] = param(
        "random",
        "Which they are. random: drawn at each boundary; nearest: those nearest to the centre; mixed: half of each.",
    )
    clustering_method: Literal["kmeans"] = param("kmeans", "There is no other one.")
    max_rounds: int = param(25, "Rounds of k-means at most.", aliases=("clustering_max_iter",), at_least=1)
    preconditioner: Literal["official", "adam", "sgd", "linear"] = param(
        "official",
        "What a representative's gradient becomes: official: the released LESS code's Adam step; adam: the step the "
        "run's optimizer would take; sgd: the gradient itself; linear: Adam's denominator divides the direction, once.",
        aliases=("gradient_type",),
    )
    aggregate: Literal["max", "mean", "round_robin"] = param(
        "max",
        "How scores for several targets (eval sets) become one ranking: the highest, the mean, or each target's best "
        "in turn.",
    )
    parameters: Literal["all", "linear"] = param(
        "all", "Whose gradients count: of every trainable parameter, or of weights and biases of linear layers only."
    )
    projection: Literal["none", "sjlt"] = param(
        "none", "none: exact inner products; sjlt: a sparse random projection to proj_dim numbers."
    )
    proj_dim: int = param(8192, "Width of the projection; only with projection: sjlt.", at_least=1)
    direction_memory_gb: float = param(
        4.0,
        "Most memory for the validation directions: 4 bytes x targets x parameters; above it, an error says so.",
        above=0,
        below=math.inf,
    )
    max_validation: int | None = param(
        None, "Aim at so many rows of each target, drawn once for the run; null takes all.", at_least=1
    )
    shard_seconds: float = param(
        60.0,
        "How often finished scores are written to cache_dir, so that an interrupted pass can go on; 0 never.",
        at_least=0,
        below=math.inf,
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )
