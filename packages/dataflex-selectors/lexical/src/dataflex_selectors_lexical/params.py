"""Parameters of the selectors ``lexical`` and ``dsir``: one method, two sets of defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dataflex import ConfigError, param

LEAST_TEMPERATURE = 1e-6
"""Scores are divided by the temperature: far below this, the quotients leave the numbers there are."""

MOST_BUCKETS = 2**20


@dataclass(frozen=True)
class LexicalParams:
    """What a run file may set under ``component_params`` of ``lexical``.

    Raises:
        ConfigError: for values that do not go together.
    """

    smooths: ClassVar[Literal["counts", "shares"]] = "counts"
    """What ``smoothing`` is added to."""

    ngrams: int = param(
        2, "Longest run of tokens that is counted: 2 counts single tokens and pairs.", at_least=1, at_most=5
    )
    buckets: int = param(10_000, "Numbers that all n-grams are hashed to.", at_least=2, at_most=MOST_BUCKETS)
    smoothing: float = param(1.0, "Added to the count of each bucket.", above=0, below=math.inf)
    normalise: bool = param(
        True, "Score a row by the mean over its n-grams; false: by their sum, which prefers long rows."
    )
    mode: Literal["sample", "top"] = param(
        "sample", "sample: draw at random, high scores more often; top: the highest scores, in random order."
    )
    temperature: float | None = param(
        0.33,
        "Of mode: sample, in standard deviations of the scores; lower stays closer to top. null: scores are the log "
        "weights as they are.",
        at_least=LEAST_TEMPERATURE,
        below=math.inf,
    )
    aggregate: Literal["max", "mean", "round_robin"] = param(
        "max",
        "How scores for several targets (eval sets) become one ranking: the highest, the mean, or each target's best "
        "in turn.",
    )
    share: float = param(
        1.0,
        "Part of each stage that is chosen by score; the rest is drawn uniformly from the other rows.",
        at_least=0,
        at_most=1,
    )
    part: Literal["all", "prompt", "answer"] = param(
        "all", "Which tokens count: all, those without a label (prompt), or those with one (answer)."
    )
    targets: tuple[str, ...] | None = param(
        None, "Names of the eval sets to aim at, so that others may only be evaluated; null aims at all."
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


@dataclass(frozen=True)
class DsirParams(LexicalParams):
    """What a run file may set under ``component_params`` of ``dsir``: the settings of DSIR's released code.

    Raises:
        ConfigError: for values that do not go together.
    """

    smooths: ClassVar[Literal["counts", "shares"]] = "shares"

    smoothing: float = param(1e-8, "Added to the share of each bucket.", above=0, below=math.inf)
    normalise: bool = param(
        False, "Score a row by the mean over its n-grams; false: by their sum, which prefers long rows."
    )
    temperature: float | None = param(
        None,
        "Of mode: sample. null: scores are the log weights as they are; else in standard deviations of the scores.",
        at_least=LEAST_TEMPERATURE,
        below=math.inf,
    )
