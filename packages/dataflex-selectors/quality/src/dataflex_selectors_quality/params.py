"""Parameters of the selectors ``ifd``, ``perplexity``, ``deita`` and ``column``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dataflex import ConfigError, param
from dataflex.scoring.embedding_params import INITIAL, RUN, PoolEmbeddingParams

_PASSES = "How often a stage reads the rows it chooses: so many times fewer are chosen; each pass has its own order."
_REPEAT = (
    "Whether a boundary may choose a row that an earlier one chose; else the next boundary goes on where it stopped. "
    "When no other is left, all are free again."
)


@dataclass(frozen=True)
class TakingParams:
    """What a run file may set of how rows are taken by their scores."""

    passes: int = param(1, _PASSES, at_least=1)
    repeat_rows: bool = param(False, _REPEAT)


@dataclass(frozen=True)
class ScoredParams(TakingParams):
    """What a run file may set of scores that a model gives once.

    Raises:
        ConfigError: for a model without a name.
    """

    score_model: str = param(
        INITIAL,
        "Which model scores, once. initial: the run's own, as training began; else the path or hub id of another "
        "causal language model, such as a small one.",
    )
    scores_dir: str | None = param(
        None, "Where scores are kept for other runs and seeds too; null keeps them in cache_dir, for this run."
    )
    token_budget: int | None = param(
        None,
        "Tokens of one scoring batch, padding included; lower it if scoring runs out of memory. null: 2048 on a CPU, "
        "16384 elsewhere.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        if self.score_model.strip() in ("", RUN):
            raise ConfigError(
                f"score_model is {self.score_model!r}, but scores are made once: write initial, or the path of a model."
            )


@dataclass(frozen=True)
class IfdParams(ScoredParams):
    """What a run file may set under ``component_params`` of ``ifd``."""

    ratio: Literal["loss", "ppl"] = param(
        "loss",
        "How both losses of an answer are compared. loss: their quotient; ppl: that of their perplexities.",
    )
    least_tokens: int = param(4, "Rows with fewer answer tokens have no score.", at_least=1)


@dataclass(frozen=True)
class PerplexityParams(ScoredParams):
    """What a run file may set under ``component_params`` of ``perplexity``.

    Raises:
        ConfigError: for values that do not go together.
    """

    band: Literal["low", "medium", "high"] = param("medium", "Which part of the perplexities rows are drawn from.")
    quantiles: tuple[float, float] = param(
        (0.33, 0.66), "Where the low band ends and where the high band begins.", at_least=0, at_most=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.quantiles
        if low >= high:
            raise ConfigError(f"quantiles must rise, and [{low}, {high}] do not.")


@dataclass(frozen=True, kw_only=True)
class ColumnParams(TakingParams):
    """What a run file may set under ``component_params`` of ``column``."""

    by: str = param(
        help="Where the numbers come from: column:NAME, a field of the data as it was before tokenising; file:PATH, "
        "scores.parquet of dataflex score or a .npy file; or length."
    )
    direction: Literal["ascending", "descending"] = param(
        "descending", "Which rows come first: those of the lowest numbers, or of the highest."
    )


@dataclass(frozen=True, kw_only=True)
class DeitaParams(PoolEmbeddingParams):
    """What a run file may set under ``component_params`` of ``deita``.

    Raises:
        ConfigError: for no numbers, or embeddings of a model that changes.
    """

    by: tuple[str, ...] = param(
        help="Numbers whose product is a row's score, such as [column:complexity, column:quality]: each column:NAME, "
        "file:PATH or length."
    )
    same_above: float = param(
        0.9,
        "A row is left out if its cosine similarity with a row already taken is above this.",
        at_least=-1,
        at_most=1,
        aliases=("threshold",),
    )
    embedding_model: str = param(
        INITIAL,
        "Which model embeds the rows, once. initial: the run's own, as training began; else the path or hub id of "
        "another one.",
        aliases=("embedding_model_name_or_path",),
    )
    pooling: Literal["mean", "weighted_mean", "last"] = param(
        "last", "How the tokens of a row become one vector; weighted_mean: the t-th token weighs t."
    )
    center: bool = param(
        False, "Subtract the mean over the pool's rows; similarities are lower then, and so has same_above to be."
    )
    passes: int = param(1, _PASSES, at_least=1)
    repeat_rows: bool = param(False, _REPEAT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.by:
            raise ConfigError("by names no numbers; write for example [column:complexity, column:quality].")
        if self.embedding_model == RUN:
            raise ConfigError(
                "embedding_model is run, but which rows are left out is decided once: write initial, or the path of a "
                "model."
            )
