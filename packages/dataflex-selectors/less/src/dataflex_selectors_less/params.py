"""Parameters of the selectors ``less`` and ``icons``. ``gradient_type``, ``proj_dim``, ``task_boundaries`` and
``top_percent`` are names of dataflex 1.x files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dataflex import ConfigError, param
from dataflex.components.screen_params import ScreenParams

LEAST_TEMPERATURE = 1e-6
"""Scores are divided by the temperature: far below this, the quotients leave the numbers there are."""

AGGREGATE = (
    "How scores of several subtasks (eval sets) become one ranking: the highest, the mean, each subtask's best in "
    "turn, votes (how many subtasks have the row among their best, as ICONS does), or balanced (always the best of "
    "the subtask that is worst off, as BIDS does)."
)
PRECONDITIONER = (
    "What a candidate's gradient becomes: official: the paper's released code's Adam step; adam: the step the "
    "run's optimizer would take (its betas, bias correction, eps outside the root, learning rates of its groups); "
    "sgd: the gradient itself; linear: another method than the paper's, which divides the eval set's direction by "
    "Adam's denominator once, in place of every candidate's gradient."
)


@dataclass(frozen=True)
class LessParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for values that do not go together.
    """

    component: ClassVar[str] = "less"

    preconditioner: Literal["official", "adam", "sgd", "linear"] = param(
        "official", PRECONDITIONER, aliases=("gradient_type",)
    )
    aggregate: Literal["max", "mean", "round_robin", "votes", "balanced"] = param("max", AGGREGATE)
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

    max_validation: int | None = param(
        None,
        "Aim at so many rows of each target, drawn once for the run; null takes all. The validation pass costs two "
        "training rows for each.",
        at_least=1,
    )
    screen: ScreenParams | None = param(
        None,
        "A cheaper selector whose scores say which rows are scored exactly: {name: lexical, params: {}, survivors: "
        "4000 | auto, worth: null, every: 0, agreement: 64}; null scores all candidates.",
    )
    vote_share: float | None = param(
        None,
        "Of aggregate: votes, the share of the candidates that each subtask votes for; null: the share that is chosen.",
        above=0,
        at_most=1,
    )
    top_percent: float | None = param(
        None, "vote_share in percent, as dataflex 1.x files have it.", above=0, at_most=100
    )
    tie_break: Literal["rank", "mean", "random"] = param(
        "rank",
        "Of aggregate: votes, who comes first of rows with as many votes: by the mean of their ranks in the subtasks, "
        "by the mean of their scores, or at random.",
    )
    task_boundaries: tuple[int, ...] | None = param(
        None,
        "Sizes that cut the one eval set into subtasks, in its order: [50, 30, 20]; null makes it one.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        if self.targets is not None and not self.targets:
            raise ConfigError("targets names no eval set; null aims at all of them.")
        if self.mode == "sample" and self.aggregate == "round_robin":
            raise ConfigError("aggregate: round_robin takes the best in turn; mode: sample needs max or mean.")
        if self.mode == "sample" and self.aggregate == "balanced":
            raise ConfigError("aggregate: balanced takes the best in turn; mode: sample needs max, mean or votes.")
        if self.task_boundaries is not None and self.subtask_column is not None:
            raise ConfigError("task_boundaries and subtask_column both cut the eval set into subtasks. Leave one out.")
        if self.task_boundaries is not None and not self.task_boundaries:
            raise ConfigError("task_boundaries holds no size; null makes the eval set one subtask.")
        if self.top_percent is not None:
            if self.vote_share not in (None, self.top_percent / 100):
                raise ConfigError("top_percent is vote_share in percent, and they differ. Leave one out.")
            object.__setattr__(self, "vote_share", self.top_percent / 100)


@dataclass(frozen=True)
class IconsParams(LessParams):
    """The same with the defaults of ICONS: plain gradients on both sides, and votes."""

    component: ClassVar[str] = "icons"

    preconditioner: Literal["official", "adam", "sgd", "linear"] = param(
        "sgd", PRECONDITIONER, aliases=("gradient_type",)
    )
    aggregate: Literal["max", "mean", "round_robin", "votes", "balanced"] = param("votes", AGGREGATE)
