"""The selector ``cluster_less``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.distributed import all_gather, together
from dataflex.math.aggregation import aggregate
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.scoring.embedding_params import RUN
from dataflex.scoring.subtasks import subtasks_of
from dataflex.scoring.validation import ValidationRows, names_of
from dataflex_selectors_cluster_less.agreement import LEAST, intraclass_correlation, of_rows
from dataflex_selectors_cluster_less.clustering import Grouping, group
from dataflex_selectors_cluster_less.params import ClusterLessParams
from dataflex_selectors_cluster_less.ranking import choose, cluster_scores, represent

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import Subtask
    from dataflex.gradients.cosines import Cosines, CosineScorer
    from dataflex.scoring.embedding_source import PoolEmbeddingSource

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]


class ClusterLessSelector(Selector):
    """Prefer rows of clusters whose representatives' gradients point where those of the eval set do.

    The pool is clustered by embeddings; a few rows of each cluster are scored as LESS scores them, and every row of a
    cluster gets their mean. With clusters of one row it is LESS.

    No paper has exactly this; LESS: Xia et al. 2024, arXiv 2402.04333.
    """

    params: ClusterLessParams
    context: RunContext

    def __init__(self, params: ClusterLessParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: PoolEmbeddingSource | None = None
        self._of_source: Mapping[str, Any] = {}
        self._grouping: Grouping | None = None
        self._validation = ValidationRows(context, params.max_validation)
        self._scorer: CosineScorer | None = None

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed the pool with the model as training begins."""
        self._embeddings().begin(model)

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Score the representatives with the current weights and choose among the clusters.

        Raises:
            ConfigError: when there is no eval set, or no memory for the validation directions.
            ComponentError: when too few rows are of a cluster with a score, or the optimizer holds no moments.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.span == "prompt" and context.stage == "pt":
            raise ConfigError("span is prompt, and rows of stage: pt have none. Set component_params.span: all.")
        subtasks = self._subtasks()
        grouping, metrics = self._clusters(model, step_id)
        members = grouping.members
        nearest = [rows[rows >= 0] for rows in grouping.nearest]
        rng = context.rng(step_id, "representatives")
        rows = represent(members, nearest, params.representatives, params.representative_strategy, rng)
        found = self._score(model, rows, subtasks, step_id)
        table = cluster_scores(found.values[rows], grouping.labels[rows], len(members))
        drawn = per_pass(num_samples, params.passes)
        self._check_scored(table, grouping, found, drawn, step_id)
        chosen = choose(table, grouping.labels, drawn, params.aggregate, context.rng(step_id))
        metrics |= self._metrics(found, rows, grouping, subtasks)
        metrics["seconds"] = time.monotonic() - began
        if context.rank == 0:
            self._report(metrics, names_of(subtasks), step_id)
        there = grouping.labels >= 0
        by_row = np.where(there[:, None], table[grouping.labels], np.nan)
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        by_target = dict(zip(names_of(subtasks), by_row.T, strict=True))
        return Selection(plan, metrics, aggregate(by_row, params.aggregate), target_scores=by_target)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward and a backward pass of each representative, and of each validation row twice, at every boundary;
        the pool is embedded at each one, or once.
        """
        index, params, size = self._embeddings().cost(model), self.params, len(self.dataset)
        clusters = min(size, params.num_clusters or -(-size // params.cluster_rows))
        scored = min(size, clusters * params.representatives)
        validation = 2 * sum(len(subtask.rows) for subtask in self._subtasks())
        embedding = index.forward * (index.rows or 0)
        if params.embedding_model == RUN:
            forward = 1.0 + embedding / max(scored, 1)
            return RowCost(forward=forward, backward=True, rows=scored, validation=validation)
        return RowCost(backward=True, rows=scored, validation=validation, once=embedding)

    def state_dict(self) -> dict[str, Any]:
        """Clusters, the rows aimed at under ``max_validation``, and which embeddings this run uses."""
        of_source = self._of_source if self._source is None else self._source.state_dict()
        own = {} if self._grouping is None else self._grouping.state_dict()
        return {**of_source, **own, **self._validation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._of_source = dict(state)
        if self._source is not None:
            self._source.load_state_dict(self._of_source)
        self._grouping = Grouping.from_state(state)
        self._validation.load_state_dict(state)

    def _subtasks(self) -> list[Subtask]:
        found = subtasks_of(self.context.eval_datasets, None, self.params.targets, who="cluster_less")
        return self._validation.of(found)

    def _embeddings(self) -> PoolEmbeddingSource:
        if self._source is None:
            from dataflex.scoring.embedding_source import PoolEmbeddingSource

            self._source = PoolEmbeddingSource(self.params, self.context)
            self._source.load_state_dict(self._of_source)
        return self._source

    def _clusters(self, model: nn.Module, step: int) -> tuple[Grouping, Metrics]:
        """The clusters, on every rank: made once, or at each boundary of the model as it is then."""
        if self._grouping is not None:
            return self._grouping, {}
        embedded = self._embeddings().at(model, np.arange(len(self.dataset), dtype=np.int64))
        context, decided = self.context, None
        anew = self.params.embedding_model == RUN
        with together("clustering", context.accelerator):
            if embedded.pool is not None:
                if not np.isfinite(embedded.pool).all(axis=1).any():
                    raise ComponentError(
                        f"no row of the pool has an embedding with span: {self.params.span}. Set "
                        "component_params.span: all, or look at the data."
                    )
                device = None if context.accelerator is None else context.accelerator.device
                decided = group(embedded.pool, self.params, context.rng(step if anew else 0, "clusters"), device)
        made: Grouping = all_gather(decided, context.accelerator)[0]
        if not anew:
            self._grouping = made
        return made, dict(embedded.metrics)

    def _score(self, model: nn.Module, rows: Rows, subtasks: Sequence[Subtask], step: int) -> Cosines:
        from dataflex.gradients.comparing import check_direction_memory, steps_of
        from dataflex.gradients.cosines import CosineScorer

        params = self.params
        if self._scorer is None:
            self._scorer = CosineScorer(
                self.context,
                parameters=params.parameters,
                token_budget=params.token_budget,
                projection=params.proj_dim if params.projection == "sjlt" else None,
                who="cluster_less",
            )
        now = self._scorer.at(model)
        steps = steps_of(self.context, now.parameters, params.preconditioner)
        check_direction_memory(sum(now.sizes.values()), len(subtasks), params.direction_memory_gb)
        settings = {**dataclasses.asdict(params), "shard_seconds": 0, "passes": 1, "step": step}
        return now.score(
            subtasks, rows, steps=steps, key="cluster_less", settings=settings, shard_seconds=params.shard_seconds
        )

    def _check_scored(self, table: Scores, grouping: Grouping, found: Cosines, needed: int, step: int) -> None:
        scored = np.asarray(np.isfinite(table).all(axis=1))
        usable = int(scored[grouping.labels[grouping.labels >= 0]].sum())
        if usable < needed:
            raise ComponentError(
                f"only {usable} of {len(grouping.labels)} rows at step {step} are of a cluster with a score and "
                f"{needed} are needed ({int((grouping.labels < 0).sum())} have no embedding; of {len(scored)} clusters "
                f"{int((~scored).sum())} have no representative with a finite gradient). Look at the training loss: "
                "lower the learning rate if the model has diverged, raise cutoff_len if the answers were cut off; or "
                "raise representatives, or lower update_step."
            )

    def _metrics(self, found: Cosines, rows: Rows, grouping: Grouping, subtasks: Sequence[Subtask]) -> Metrics:
        clusters = grouping.labels[rows]
        metrics: Metrics = {
            "clusters": float(len(grouping.nearest)),
            "rounds": float(grouping.rounds),
            "scored": float(len(rows)),
            "resumed": float(found.resumed),
            "without_embedding": float((grouping.labels < 0).sum()),
            "non_finite": float(found.non_finite),
            "without_targets": float(np.count_nonzero(found.targets[rows] == 0)),
            "validation": float(sum(len(subtask.rows) for subtask in subtasks)),
            "validation_non_finite": float(found.validation.lost),
            "validation_zero": float(found.validation.flat),
            "validation_seconds": found.validation_seconds,
            "samples_per_second": found.rows_per_second,
            "one_by_one": float(bool(found.one_by_one)),
        }
        agreement = [intraclass_correlation(found.values[rows, place], clusters) for place in range(len(subtasks))]
        known = [each for each in agreement if each is not None]
        if len(known) == len(agreement):
            metrics["agreement"] = known
            metrics["agreement_of_rows"] = [of_rows(each, self.params.representatives) for each in known]
        return metrics

    def _report(self, metrics: Metrics, names: Sequence[str], step: int) -> None:
        logger.info(
            "cluster_less at step %d: scored %d representatives of %d clusters in %.1f s.",
            *(step, metrics["scored"], metrics["clusters"], metrics["seconds"]),
        )
        agreement = metrics.get("agreement", [])
        assert isinstance(agreement, list)
        for name, value in zip(names, agreement, strict=False):
            if value < LEAST:
                logger.warning(
                    "clusters say little of their rows: scores for %s agree by %.3f within clusters (intraclass "
                    "correlation; 1: alike, 0: no more than rows of different clusters). Use smaller clusters "
                    "(component_params.cluster_rows), another embedding_model, or the selector less.",
                    *(name, value),
                )
