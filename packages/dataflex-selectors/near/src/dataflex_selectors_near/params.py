"""Parameters of the selectors ``near`` and ``rds``: one method, two sets of defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dataflex import param
from dataflex.scoring.embedding_params import INITIAL, RUN, EmbeddingParams

_AGGREGATE = (
    "How likenesses to several rows of the eval sets become one choice. round_robin: these rows in turn take their "
    "nearest that is not taken; max, mean: over them."
)
_MODEL = (
    "Which model embeds the rows. run: the model at each boundary; initial: as training began, once; else the path or "
    "hub id of another one."
)
_TOKENS = "Only the first so many tokens of the span; null for all."


@dataclass(frozen=True)
class NearParams(EmbeddingParams):
    """What a run file may set under ``component_params`` of ``near``.

    Raises:
        ConfigError: for a list without a layer or target.
    """

    embedding_model: str = param(RUN, _MODEL, aliases=("embedding_model_name_or_path",))
    aggregate: Literal["round_robin", "max", "mean"] = param("round_robin", _AGGREGATE)
    repeat_rows: bool = param(
        False,
        "Whether a boundary may choose a row that an earlier one chose. When no other is left, all are free again.",
    )
    share: float = param(
        1.0,
        "Part of each stage that is chosen by likeness; the rest is drawn uniformly from the other rows.",
        at_least=0,
        at_most=1,
    )
    passes: int = param(
        1,
        "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order.",
        at_least=1,
    )
    max_candidates: int | None = param(
        None, "Look at only so many rows, a fresh random part of the pool at each boundary; null: all.", at_least=1
    )


@dataclass(frozen=True)
class RdsParams(NearParams):
    """What a run file may set under ``component_params`` of ``rds``.

    Raises:
        ConfigError: for a list without a layer or target.
    """

    embedding_model: str = param(INITIAL, _MODEL, aliases=("embedding_model_name_or_path",))
    tokens: int | None = param(32, _TOKENS, at_least=1)
