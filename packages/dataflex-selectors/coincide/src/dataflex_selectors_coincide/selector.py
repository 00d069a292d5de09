"""The selector ``coincide``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.distributed import all_gather, together
from dataflex.math.kmeans import members_of, unit_rows
from dataflex.math.mmd import greedy_mmd
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex_selectors_coincide.fitting import Fit, fit
from dataflex_selectors_coincide.params import CoincideParams
from dataflex_selectors_coincide.shares import serve

if TYPE_CHECKING:
    from torch import nn

    from dataflex.scoring.embedding_source import Embedded, PoolEmbeddingSource

Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

_WHY = {"all": "no token", "prompt": "no token of a prompt", "answer": "no token with a label"}


class CoincideSelector(Selector):
    """Take some rows of every cluster of the pool: more of clusters whose centre is like others, and of diverse ones.

    Within a cluster rows are taken one after another so that those taken stand for all of it (greedy MMD), and each
    boundary goes on where the last one stopped.

    Paper: Lee, Li & Hwang 2024, "Concept-skill Transferability-based Data Selection for Large Vision-Language Models",
    arXiv 2406.10995.
    """

    params: CoincideParams
    context: RunContext

    def __init__(self, params: CoincideParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: PoolEmbeddingSource | None = None
        self._of_source: Mapping[str, Any] = {}
        self._fit: Fit | None = None
        self._served: Rows = np.zeros(0, np.int64)

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed the pool with the model as training begins."""
        self._embeddings().begin(model)

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Divide the stage among clusters and take the next rows of each.

        Raises:
            ConfigError: when ``span`` is ``prompt`` in pretraining.
            ComponentError: when fewer rows have an embedding than are to be chosen, or rows come with pictures.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.span == "prompt" and context.stage == "pt":
            raise ConfigError("span is prompt, and rows of stage: pt have none. Set component_params.span: all.")
        embedded = self._embeddings().at(model, np.arange(len(self.dataset), dtype=np.int64))
        needed = per_pass(num_samples, params.passes)
        made, parts, chosen = self._decided(embedded, needed, step_id)
        self._fit = made
        taken = sum(int((end - first).sum()) for first, end in parts[1:])
        if not params.repeat_rows:
            self._served = parts[-1][1]
        metrics: Metrics = {
            "clusters": float(len(made.shares)),
            "largest_cluster": float(made.sizes.max()),
            "rounds": float(made.rounds),
            "transfer": made.transfer,
            "density": made.density,
            "clusters_chosen": float(np.count_nonzero(sum(end - first for first, end in parts))),
            "again": float(taken),
            "scored": float(made.sizes.sum()),
            "without_score": float((made.labels < 0).sum()),
            **embedded.metrics,
            "seconds": time.monotonic() - began,
        }
        if context.rank == 0:
            logger.info(
                "coincide at step %d: %d rows of %d of %d clusters in %.1f s.",
                *(step_id, needed, metrics["clusters_chosen"], len(made.shares), metrics["seconds"]),
            )
        chosen = context.rng(step_id).permutation(chosen)  # cluster after cluster, stages would see one at a time
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        each = made.shares / made.sizes
        scores = np.where(made.labels < 0, np.nan, each[made.labels])
        return Selection(plan, metrics, scores)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward pass of each row up to the deepest layer, once."""
        return self._embeddings().cost(model)

    def state_dict(self) -> dict[str, Any]:
        """Clusters, their shares, how many rows of each were taken, and which embeddings this run uses."""
        of_source = self._of_source if self._source is None else self._source.state_dict()
        own = {} if self._fit is None else {**self._fit.state_dict(), "served": self._served}
        return {**of_source, **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._of_source = dict(state)
        if self._source is not None:
            self._source.load_state_dict(self._of_source)
        self._fit = Fit.from_state(state)
        self._served = np.asarray(state.get("served", ()), np.int64)

    def _embeddings(self) -> PoolEmbeddingSource:
        if self._source is None:
            from dataflex.scoring.cutting import has_media
            from dataflex.scoring.embedding_source import PoolEmbeddingSource

            if has_media(self.dataset):
                raise ComponentError(
                    "the rows come with pictures, films or sound, and coincide clusters text alone so far. Use "
                    "component_name: random or loss."
                )
            params = self.params
            own = {"site": params.site, "squash": params.squash, "width": params.width}
            self._source = PoolEmbeddingSource(params, self.context, **own)
            self._source.load_state_dict(self._of_source)
        return self._source

    def _decided(self, embedded: Embedded, needed: int, step: int) -> tuple[Fit, list[tuple[Rows, Rows]], Rows]:
        """Rank 0's decision, on every rank: the embeddings are on rank 0 alone."""
        accelerator, decided = self.context.accelerator, None
        with together("choosing rows of clusters", accelerator):
            if embedded.pool is not None:
                decided = self._decide(embedded.pool, needed, step)
        answer: tuple[Fit, list[tuple[Rows, Rows]], Rows] = all_gather(decided, accelerator)[0]
        return answer

    def _decide(self, pool: npt.NDArray[Any], needed: int, step: int) -> tuple[Fit, list[tuple[Rows, Rows]], Rows]:
        usable, context = int(np.isfinite(pool).all(axis=1).sum()), self.context
        if usable < needed:
            raise ComponentError(
                f"only {usable} of {len(pool)} rows have an embedding at step {step} and {needed} are needed: the "
                f"others have {_WHY[self.params.span]}. Set component_params.span: all, look at the data, or lower "
                "update_step."
            )
        device = None if context.accelerator is None else context.accelerator.device
        made = self._fit or fit(pool, self.params, lambda *names: context.rng(0, *names), device)
        served = self._served if len(self._served) else np.zeros(len(made.shares), np.int64)
        parts = serve(made.shares, made.sizes, served, needed)
        members, chosen = members_of(made.labels, len(made.shares)), [np.zeros(0, np.int64)]
        for cluster in np.flatnonzero(sum(end - first for first, end in parts)).tolist():
            ends = [(int(first[cluster]), int(end[cluster])) for first, end in parts]
            own = members[cluster]
            order = own[greedy_mmd(unit_rows(pool[own]), max(end for _, end in ends))]
            chosen += [order[first:end] for first, end in ends]
        return made, parts, np.concatenate(chosen)
