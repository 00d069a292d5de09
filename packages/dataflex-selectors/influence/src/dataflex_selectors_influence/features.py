"""What labels are predicted from: counts of token ids, or embeddings.

Shapes: N rows of the pool, n labelled rows, R rows of a block, T tokens of it, D features, S targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dataflex import RunContext
from dataflex.data.token_blocks import TokenBlock, token_blocks
from dataflex.distributed import all_gather, together
from dataflex.math.selection_cost import RowCost
from dataflex_selectors_influence.params import InfluenceParams
from dataflex_selectors_influence.ridge import Ridge

if TYPE_CHECKING:
    from torch import nn


Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

NO_TOKEN = "no token that is not padding"
NO_EMBEDDING = "no token in the span, so no embedding"

_BLOCK = 4096  # rows of embeddings that are predicted at once


class Features(Protocol):
    """The features of the pool's rows.

    Attributes:
        without: Why a row may have none, for messages.
        metrics: What making them took, for the decision.
    """

    without: str
    metrics: Metrics

    def begin(self, model: nn.Module) -> None:
        """See the model as training begins. Called on every rank."""

    def open(self, model: nn.Module) -> None:
        """Prepare for a boundary. Called on every rank."""

    def cost(self, model: nn.Module) -> RowCost:
        """What making them costs."""

    def of(self, rows: Rows) -> Floats | None:
        """Features of some rows, shape [n, D]; NaN for a row that has none. On rank 0; may be ``None`` elsewhere."""

    def predict(self, ridge: Ridge) -> Floats:
        """Scores of the whole pool, the same on every rank, shape [N, S]; NaN for a row without features."""

    def state_dict(self) -> dict[str, Any]:
        """What must be remembered."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""


class Counts:
    """``ln(1 + count)`` of token ids modulo ``buckets``, brought to length 1. Padding does not count."""

    without = NO_TOKEN

    def __init__(self, params: InfluenceParams, context: RunContext) -> None:
        self._buckets, self._context = params.buckets, context
        self.metrics: Metrics = {}

    def begin(self, model: nn.Module) -> None:
        """Nothing: no model is asked."""

    def open(self, model: nn.Module) -> None:
        """Nothing."""

    def cost(self, model: nn.Module) -> RowCost:
        """No pass of the model."""
        return RowCost(forward=0.0, rows=0)

    def of(self, rows: Rows) -> Floats:
        """Features of some rows."""
        those, place = np.unique(rows, return_inverse=True)
        dataset, blocks = self._context.dataset, []
        part = dataset.select(those) if hasattr(dataset, "select") else [dataset[int(row)] for row in those]
        for block in token_blocks(part, 0, len(those)):
            blocks.append(_counted(block, self._buckets))
        return np.concatenate(blocks)[place]

    def predict(self, ridge: Ridge) -> Floats:
        """Scores of the pool; each rank reads a stretch of it."""
        context = self._context
        size, rank, ranks = len(context.dataset), context.rank, context.world_size
        start, stop = size * rank // ranks, size * (rank + 1) // ranks
        mine = np.zeros((stop - start, ridge.coefficients_DS.shape[1]))
        with together("counting tokens", context.accelerator):
            for block in token_blocks(context.dataset, start, stop):
                mine[block.start - start : block.stop - start] = ridge.predict(_counted(block, self._buckets))
        return np.concatenate(all_gather(mine, context.accelerator))

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


def _counted(block: TokenBlock, buckets: int) -> Floats:
    rows = len(block.lengths)
    places = np.repeat(np.arange(rows) * buckets, block.lengths) + block.ids % buckets
    if block.kept is not None:
        places = places[block.kept]
    logs_RD = np.log1p(np.bincount(places, minlength=rows * buckets).reshape(rows, buckets))
    lengths_R = np.linalg.norm(logs_RD, axis=1, keepdims=True)
    return np.asarray(logs_RD / np.where(lengths_R > 0, lengths_R, np.nan))


class Embedding:
    """Embeddings of the pool, by core's service; on rank 0."""

    without = NO_EMBEDDING

    def __init__(self, params: InfluenceParams, context: RunContext) -> None:
        from dataflex.scoring.embedding_source import PoolEmbeddingSource

        self._source, self._context = PoolEmbeddingSource(params, context), context
        self._values: npt.NDArray[np.float16] | None = None
        self.metrics: Metrics = {}

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed the pool."""
        self._source.begin(model)

    def open(self, model: nn.Module) -> None:
        """Have the embeddings of this boundary."""
        found = self._source.at(model, np.arange(len(self._context.dataset), dtype=np.int64))
        self._values, self.metrics = found.pool, found.metrics

    def cost(self, model: nn.Module) -> RowCost:
        """A pass over the pool."""
        return self._source.cost(model)

    def of(self, rows: Rows) -> Floats | None:
        """Features of some rows."""
        return None if self._values is None else self._values[rows].astype(np.float64)

    def predict(self, ridge: Ridge) -> Floats:
        """Scores of the pool, made by rank 0."""
        found = None
        if self._values is not None:
            starts = range(0, len(self._values), _BLOCK)
            found = np.concatenate(
                [ridge.predict(self._values[start : start + _BLOCK].astype(np.float64)) for start in starts]
            )
        self._values = None
        return np.asarray(all_gather(found, self._context.accelerator)[0])

    def state_dict(self) -> dict[str, Any]:
        """Which index is used."""
        return self._source.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._source.load_state_dict(state)


def features_of(params: InfluenceParams, context: RunContext) -> Features:
    """The features that ``params`` asks for."""
    return Embedding(params, context) if params.features == "embedding" else Counts(params, context)
