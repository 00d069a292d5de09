"""Parameters of the selector ``less``. ``gradient_type`` and ``proj_dim`` are names of dataflex 1.x files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param

LEAST_TEMPERATURE = 1e-6
"""Scores are divided by the temperature: far below this, the quotients leave the numbers there are."""


@dataclass(frozen=True)
class LessParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for values that do not go together.
    """

    preconditioner: Literal["official", "adam", "sgd", "linear"] = param(
        "official",
        "What a candidate's gradient becomes: official: the paper's released code's Adam step; adam: the step the "
        "run's optimizer would take (its betas, bias correction, eps outside the root, learning rates of its groups); "
        "sgd: the gradient itself; linear: another method than the paper's, which divides the eval set's direction by "
        "Adam's denominator once, in place of every candidate's gradient.",
        aliases=("gradient_type",),
    )
    aggregate: Literal["max", "mean", "round_robin"] = param(
        "max",
        "How scores of several subtasks (eval sets) become one ranking: the highest, the mean, or each subtask's best "
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
    parameters: Literal["all", "linear"] = param(
        "all",
        "Whose gradients count. all: every trainable parameter, one sample at a time where some are not in linear "
        "layers; linear: weights and biases of linear layers only, so that batches stay possible.",
    )
    projection: Literal["none", "sjlt"] = param(
        "none",
        "none: exact inner products; sjlt: a sparse random projection to proj_dim numbers, for full fine-tuning of "
        "models whose validation directions do not fit into memory.",
    )
    proj_dim: int = param(8192, "Width of the projection; only with projection: sjlt.", at_least=1)
    direction_memory_gb: float = param(
        4.0,
        "Most memory for the validation directions: 4 bytes x subtasks x parameters; above it, an error says so.",
        above=0,
        below=math.inf,
    )
    history: bool = param(
        False, "Add up the scores of all boundaries so far, weighted by learning rate, as the paper does over epochs."
    )
    max_candidates: int | None = param(
        None, "Score only so many rows, a fresh random part of the pool at each boundary; null scores all.", at_least=1
    )
    token_budget: int | None = param(
        None,
        "Tokens of one scoring batch, padding included; lower it if scoring runs out of memory. null: 2048 on a CPU, "
        "8192 elsewhere.",
        at_least=1,
    )
    targets: tuple[str, ...] | None = param(
        None, "Names of the eval sets to aim at, so that others may only be evaluated; null aims at all."
    )
    subtask_column: str | None = param(
        None, "A column of the eval set whose values name the subtasks; null makes each eval set one subtask."
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
        if self.targets is not None and not self.targets:
            raise ConfigError("targets names no eval set; null aims at all of them.")
        if self.mode == "sample" and self.aggregate == "round_robin":
            raise ConfigError("aggregate: round_robin takes the best in turn; mode: sample needs max or mean.")
