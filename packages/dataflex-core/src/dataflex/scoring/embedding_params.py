"""Parameters that components with embeddings have. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from dataflex.errors import ConfigError
from dataflex.spec import param

if TYPE_CHECKING:
    from dataflex.scoring.embeddings import EmbeddingSpec

RUN, INITIAL = "run", "initial"
"""Words for the run's own model: as it is at each boundary, and as training began."""

LEGACY: Mapping[str, str] = MappingProxyType(
    {
        "embedding_model_dtype": "the dtype is that of the model's files, or of the run",
        "clustering_batch_size": "batches follow token_budget",
        "clustering_num_workers": "rows are tokenised already",
        "embed_method": "the rows are embedded by embedding_model, layer and pooling",
    }
)
"""Names of dataflex 1.x files that mean nothing here, for ``ComponentSpec.legacy``."""


@dataclass(frozen=True)
class PoolEmbeddingParams:
    """What a run file may set about embeddings of the pool. A component derives its own parameters of this.

    It may change defaults.

    Raises:
        ConfigError: for a list without a layer.
    """

    embedding_model: str | None = param(
        INITIAL,
        "Which model embeds the rows. run: the model at each boundary; initial, or null: as training began, once; else "
        "the path or hub id of another one.",
        aliases=("embedding_model_name_or_path",),
    )
    embedding_layers: int | tuple[int, ...] | None = param(
        (-1,),
        "Which layers: 0 is what enters the first block, -1 what leaves the final norm; of several, the vectors stand "
        "side by side. null: five, at m/6 of the depth.",
        aliases=("embedding_layer",),
    )
    pooling: Literal["mean", "weighted_mean", "last"] = param(
        "weighted_mean", "How the tokens of a row become one vector; weighted_mean: the t-th token weighs t."
    )
    span: Literal["all", "prompt", "answer"] = param("all", "Which tokens count; answer: those that are trained on.")
    tokens: int | None = param(None, "Only the first so many tokens of the span; null for all.", at_least=1)
    center: bool = param(True, "Subtract the mean over the pool's rows: without it all rows of a model look alike.")
    embeddings_dir: str | None = param(
        None, "Where embeddings are kept for other runs and seeds too; null keeps them in cache_dir, for this run."
    )
    token_budget: int | None = param(
        None,
        "Tokens of one batch, padding included; lower it if embedding runs out of memory. null: 2048 on a CPU, 16384 "
        "elsewhere.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        if self.embedding_model is None:  # as dataflex 1.x files have it
            object.__setattr__(self, "embedding_model", INITIAL)
        if self.embedding_layers == ():
            raise ConfigError("embedding_layers names no layer; -1 is the last one.")
        if not str(self.embedding_model).strip():
            raise ConfigError("embedding_model is empty; write run, initial, or the path of a model.")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, one or several; none for five that are spread over the depth."""
        given = self.embedding_layers
        if given is None:
            return ()
        return (given,) if isinstance(given, int) else tuple(given)

    def spec(self, **more: Any) -> EmbeddingSpec:
        """What to embed with.

        Args:
            more: Fields of :class:`~dataflex.scoring.embeddings.EmbeddingSpec` that are the component's own affair.
        """
        from dataflex.scoring.embeddings import EmbeddingSpec

        model = RUN if self.embedding_model == INITIAL else str(self.embedding_model)
        settings: dict[str, Any] = {"pooling": self.pooling, "span": self.span, "tokens": self.tokens}
        return EmbeddingSpec(model=model, layers=self.layers, center=self.center, **{**settings, **more})


@dataclass(frozen=True)
class EmbeddingParams(PoolEmbeddingParams):
    """The same for a component that compares the pool with eval sets.

    Raises:
        ConfigError: for a list without a layer or target.
    """

    targets: tuple[str, ...] | None = param(
        None, "Names of the eval sets to aim at, so that others may only be evaluated; null aims at all."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets is not None and not self.targets:
            raise ConfigError("targets names no eval set; null aims at all of them.")
