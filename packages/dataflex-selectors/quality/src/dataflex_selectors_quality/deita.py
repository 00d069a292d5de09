"""The selector ``deita``: complexity times quality, without rows that are too much like a better one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import RunContext
from dataflex.data.given_scores import given_numbers
from dataflex.distributed import all_gather, together
from dataflex.math.selection_cost import RowCost
from dataflex_selectors_quality.base import Floats, Preference, PreferringSelector, Rows, ranked
from dataflex_selectors_quality.params import DeitaParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.scoring.embedding_source import PoolEmbeddingSource
    from dataflex_selectors_quality.diverse import Diverse


class DeitaSelector(PreferringSelector):
    """Take rows by the product of given scores, leaving out those that are too much like one already taken.

    Paper: Liu et al. 2024, "What Makes Good Data for Alignment?" (arXiv 2312.15685), its score-first, diversity-aware
    selection; the scores of complexity and quality are given, not made.
    """

    params: DeitaParams

    def __init__(self, params: DeitaParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: PoolEmbeddingSource | None = None
        self._of_source: Mapping[str, Any] = {}
        self._products: Floats | None = None
        self._diverse: Diverse | None = None

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed the pool with the model as training begins."""
        self._embeddings().begin(model)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward pass without the head, of the pool, once."""
        return self._embeddings().cost(model)

    def preferred(self, model: nn.Module, step: int, count: int, free: npt.NDArray[np.bool_]) -> Preference:
        """By the product of the scores, as far down the list as the boundary needs; to score, all the way."""
        if self._products is None:
            given = [given_numbers(by, self.dataset, self.context.columns) for by in self.params.by]
            self._products = np.stack(given).prod(axis=0)
        context, size = self.context, len(self.dataset)
        embedded = self._embeddings().at(model, np.arange(size, dtype=np.int64))
        decided: tuple[Rows, Rows, int] | None = None
        with together("leaving out rows that are alike", context.accelerator):
            if embedded.pool is not None:
                decided = self._keep(embedded.pool, None if context.scores_only else count, free)
        order, left_out, without = all_gather(decided, context.accelerator)[0]
        scores = self._products.copy()
        scores[left_out] = np.nan
        known = int(np.isfinite(self._products).sum())
        why = (
            f"{size - known} have no number in {', '.join(self.params.by)}, {without} no embedding, "
            f"{len(left_out) - without} are more alike than same_above={self.params.same_above} to a better one"
        )
        metrics = {**embedded.metrics, "alike": float(len(left_out) - without), "without_embedding": float(without)}
        return Preference(order, scores, why, metrics)

    def _keep(
        self, vectors: npt.NDArray[Any], count: int | None, free: npt.NDArray[np.bool_]
    ) -> tuple[Rows, Rows, int]:
        """Rows kept, rows left out, and how many of these have no embedding; on rank 0, where the embeddings are."""
        assert self._products is not None
        by_score, known = ranked(self._products), np.isfinite(vectors).all(axis=1)
        if self._diverse is None:
            from dataflex_selectors_quality.diverse import Diverse

            accelerator = self.context.accelerator
            device = None if accelerator is None else accelerator.device
            self._diverse = Diverse(by_score[known[by_score]], vectors, self.params.same_above, device=device)
        kept = self._diverse.all() if count is None else self._diverse.until(free, count)
        unknown = by_score[~known[by_score]]
        return kept, np.concatenate([unknown, self._diverse.left_out(kept)]), len(unknown)

    def state_dict(self) -> dict[str, Any]:
        """Which rows may be chosen next, and which embeddings this run uses."""
        of_source = self._of_source if self._source is None else self._source.state_dict()
        return {**super().state_dict(), **of_source}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        self._of_source = {name: value for name, value in state.items() if name.startswith("embedding_")}
        self._diverse = None
        if self._source is not None:
            self._source.load_state_dict(self._of_source)

    def _embeddings(self) -> PoolEmbeddingSource:
        if self._source is None:
            from dataflex.scoring.embedding_source import PoolEmbeddingSource

            self._source = PoolEmbeddingSource(self.params, self.context)
            self._source.load_state_dict(self._of_source)
        return self._source
