"""Parameters of the selector ``nice``. ``gradient_type`` and ``reward_model_path`` are names of dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param

EXACT_MATCH = "exact_match"
"""The reward that needs no function."""


@dataclass(frozen=True)
class NiceParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for a reward without a name, or a list without a target.
    """

    reward: str = param(
        help="What an answer is worth. module:function: of (prompts, answers, references), lists of texts, one number "
        "for each; exact_match: 1 where answer and reference are the same text, else 0; or the path or hub id of a "
        "classifier.",
        aliases=("reward_model_path",),
    )
    mc_samples: int = param(8, "Answers sampled for each validation row.", at_least=2)
    max_new_tokens: int = param(256, "Tokens of an answer at most.", at_least=1)
    generation_temperature: float = param(
        1.0,
        "Of sampling. Other values than 1 sample another distribution than the one that gradients are taken of.",
        above=0,
        below=math.inf,
    )
    top_p: float = param(
        1.0,
        "Share of the probability that is sampled from, likeliest tokens first; below 1 as for generation_temperature.",
        above=0,
        at_most=1,
    )
    baseline: Literal["loo", "none"] = param(
        "loo", "What is taken off a reward. loo: the mean reward of the row's other answers; none: nothing."
    )
    max_validation: int | None = param(
        64, "Aim at so many rows of each target, drawn once for the run; null takes all.", at_least=1
    )
    preconditioner: Literal["official", "adam", "sgd", "linear"] = param(
        "official",
        "What a candidate's gradient becomes: official: the released LESS code's Adam step; adam: the step the run's "
        "optimizer would take; sgd: the gradient itself; linear: Adam's denominator divides the direction, once.",
        aliases=("gradient_type",),
    )
    aggregate: Literal["max", "mean", "round_robin"] = param(
        "max",
        "How scores for several targets become one ranking: the highest, the mean, or each target's best in turn.",
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
    max_candidates: int | None = param(
        None, "Score only so many rows, a fresh random part of the pool at each boundary; null scores all.", at_least=1
    )
    token_budget: int | None = param(
        None,
        "Tokens of one batch, padding and tokens still to be sampled included; lower it if memory runs out. null: 2048 "
        "on a CPU; elsewhere 8192, and 16384 to sample.",
        at_least=1,
    )
    targets: tuple[str, ...] | None = param(
        None, "Names of the eval sets to aim at, so that others may only be evaluated; null aims at all."
    )
    subtask_column: str | None = param(
        None, "A column of the eval set whose values name the targets; null makes each eval set one target."
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

    def __post_init__(self) -> None:
        if not self.reward.strip():
            raise ConfigError("reward is empty. Write module:function, exact_match or the path of a classifier.")
        if self.targets is not None and not self.targets:
            raise ConfigError("targets names no eval set; null aims at all of them.")
