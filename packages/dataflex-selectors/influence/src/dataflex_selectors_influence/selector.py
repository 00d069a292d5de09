"""The selector ``influence``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Candidates, ComponentError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.distributed import all_gather, together
from dataflex.math.aggregation import aggregate, round_robin
from dataflex.math.draws import by_score, with_share
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import gumbel_top_k, top_k
from dataflex.scoring.candidates import check_enough, places_in_groups
from dataflex.scoring.validation import names_of
from dataflex_selectors_influence.direction import Aim
from dataflex_selectors_influence.features import features_of
from dataflex_selectors_influence.labels import Labels
from dataflex_selectors_influence.params import LEAST_LABELS, InfluenceParams
from dataflex_selectors_influence.ridge import Ridge, fit

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.labels import LabelDirections

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

LOW_CORRELATION = 0.1
"""Below this, what other rows predict of a label says next to nothing of it."""


class InfluenceSelector(Selector):
    """LESS whose labels training makes itself: no row of the pool is scored by its gradient.

    In each training step, from its own backward, every row gets the label ``<g, P u> / |g|``, u the mean unit gradient
    of a target's rows. At a boundary the labels of the rows trained on so far are fitted on cheap features by ridge
    regression, the whole pool is predicted, and the highest predictions are taken; beside a mixer, within each domain.

    After Xia et al. 2024 (LESS, arXiv 2402.04333), with labels as Wang et al. 2024 (In-Run Data Shapley, arXiv
    2406.11011, first order) take them from training.
    """

    params: InfluenceParams
    context: RunContext

    def __init__(self, params: InfluenceParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._aim, self._labels = Aim(params, context), Labels(params.max_labels)
        self._features = features_of(params, context)
        self._since: list[list[float]] = []  # labels summed over the rows since the last boundary, and how many

    def begin(self, model: nn.Module) -> None:
        """Make the direction, and embeddings of the model as it is now."""
        if self.context.trains:
            self._aim.begin(model)
        self._features.begin(model)

    def directions(self, model: nn.Module, step_id: int) -> LabelDirections | None:
        """The direction; made anew where it is due."""
        return self._aim.at(model, step_id)

    def on_rows(self, step: int, rows: Rows, losses: Scores | None = None, labels: Scores | None = None) -> None:
        """Keep the labels of a step's rows."""
        if labels is None:
            return
        known = labels[np.isfinite(labels).all(axis=1)]
        sums, count = self._since or ([0.0] * labels.shape[1], [0.0])
        self._since = [(np.asarray(sums) + known.sum(axis=0)).tolist(), [count[0] + len(known)]]
        self._labels.add(rows, labels, self._aim.number)

    def select(
        self,
        model: nn.Module,
        step_id: int,
        num_samples: int,
        candidates: Candidates | None = None,
        **kwargs: Any,
    ) -> Selection:
        """Fit the labels, predict those of the whole pool and choose, within each domain beside a mixer.

        Raises:
            ConfigError: when the pool has fewer rows than are drawn.
            ComponentError: when too few rows have features, or a pool is to be scored without labels.
        """
        began, context, params = time.monotonic(), self.context, self.params
        size, drawn = len(self.dataset), per_pass(num_samples, params.passes)
        if candidates is None:
            check_enough(size, num_samples, step_id, pool_size=size, limit=None, passes=params.passes)
        groups = places_in_groups(candidates, np.arange(size), drawn)
        rng, by_chance = context.rng(step_id), context.rng(step_id, "share")
        metrics: Metrics = {"labels": float(len(self._labels)), **self._mean_labels()}
        chosen: list[Rows] = []
        if len(self._labels) < LEAST_LABELS:
            self._say_at_random(step_id)
            chosen = [rng.choice(own, size=count, replace=False) for own, count in groups]
            scores, by_target = None, {}
            metrics["at_random"] = 1.0
        else:
            self._features.open(model)
            ridge = self._fit()
            scores_NS = self._features.predict(ridge)
            for own, count in groups:
                self._check_scored(scores_NS[own], count, step_id, "the pool" if candidates is None else "a domain")
                best = own[self._choose(scores_NS[own], by_score(count, params.share), rng)]
                chosen.append(with_share(best, own, count, by_chance))
            scores = aggregate(scores_NS, params.aggregate)
            by_target = dict(zip(names_of(self._aim.targets()), scores_NS.T, strict=True))
            metrics |= self._metrics(ridge, scores_NS, np.concatenate(chosen))
        metrics["seconds"] = time.monotonic() - began
        rows = np.concatenate(chosen)
        plan = read_again(rows, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        self._since = []
        return Selection(plan, metrics, scores, target_scores=by_target)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """No pass over a row of the pool but for embeddings; labels are training's own. The rows of the targets are
        passed over twice whenever the direction is made.
        """
        validation = sum(len(target.rows) for target in self._aim.targets())
        made = self._aim.times(self.context.total_steps)
        return dataclasses.replace(self._features.cost(model), validation=2 * validation, validation_times=made)

    def state_dict(self) -> dict[str, Any]:
        """Direction, labels with their rows and directions, and which embeddings are used."""
        own = {"labels_since": self._since}
        return {**self._aim.state_dict(), **self._labels.state_dict(), **self._features.state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._aim.load_state_dict(state)
        self._labels.load_state_dict(state)
        self._features.load_state_dict(state)
        self._since = [list(each) for each in state["labels_since"]]

    def _mean_labels(self) -> Metrics:
        """The mean label of the stage that has ended, over all targets, and by target where there are several."""
        if not self._since or not self._since[1][0]:
            return {}
        means = [total / self._since[1][0] for total in self._since[0]]
        return {"stage_influence": float(np.mean(means)), **({"target_influence": means} if len(means) > 1 else {})}

    def _say_at_random(self, step: int) -> None:
        """Say that labels are too few; an error where only scores are wanted."""
        if self.context.screens:
            raise ComponentError(
                f"there are {len(self._labels)} labels and at least {LEAST_LABELS} are needed to screen a pool: labels "
                "are made while training. Raise warmup_step."
            )
        if self.context.scores_only:
            raise ComponentError(
                f"there are {len(self._labels)} labels and at least {LEAST_LABELS} are needed to score a pool: labels "
                "are made while training. Score a checkpoint of a run with component_name: influence."
            )
        if self.context.rank == 0:
            logger.warning(
                "influence at step %d: only %d rows have a label and at least %d are needed, so the stage is drawn at "
                "random. Raise warmup_step%s.",
                step,
                len(self._labels),
                LEAST_LABELS,
                ", or lower refresh" if self.params.preconditioner == "linear" else "",
            )

    def _fit(self) -> Ridge:
        """Fit on rank 0; the same on every rank."""
        context, found = self.context, None
        with together("fitting labels", context.accelerator):
            features = self._features.of(self._labels.rows)
            if features is not None and context.rank == 0:
                labels, usable = self._labels.comparable(), np.isfinite(features).all(axis=1)
                if usable.sum() < LEAST_LABELS:
                    raise ComponentError(
                        f"only {int(usable.sum())} of {usable.size} labelled rows have features: the others have "
                        f"{self._features.without}."
                    )
                found = fit(features[usable], labels[usable], self.params.ridge)
        ridge = all_gather(found, context.accelerator)[0]
        assert isinstance(ridge, Ridge)
        known = ridge.held_out_S[np.isfinite(ridge.held_out_S)]
        if context.rank == 0 and len(known) and known.max() < LOW_CORRELATION:
            logger.warning(
                "labels can hardly be told from %s: held-out correlation %.2f. This selection is close to a random "
                "one; more labels, or features: %s, may help.",
                self.params.features,
                known.max(),
                "embedding" if self.params.features == "counts" else "counts",
            )
        return ridge

    def _check_scored(self, scores_NS: Scores, needed: int, step: int, whose: str) -> None:
        usable, size = int(np.isfinite(scores_NS).all(axis=1).sum()), len(scores_NS)
        if usable < needed:
            raise ComponentError(
                f"only {usable} of {whose}'s {size} rows have a score and {needed} are needed at step {step}: the "
                f"others have {self._features.without}. Look at the data, or lower update_step."
            )

    def _choose(self, scores_NS: Scores, count: int, rng: np.random.Generator) -> Rows:
        # All three come ranked; shuffled, every part of the stage sees the same mix.
        if self.params.aggregate == "round_robin":
            return rng.permutation(round_robin(scores_NS, count))
        scores_N = aggregate(scores_NS, self.params.aggregate)
        if self.params.mode == "top_k":
            return rng.permutation(top_k(scores_N, count))
        return rng.permutation(gumbel_top_k(_log_weights(scores_N, self.params.temperature), count, rng))

    def _metrics(self, ridge: Ridge, scores_NS: Scores, rows: Rows) -> Metrics:
        finite = np.isfinite(scores_NS).all(axis=1)
        metrics: Metrics = {
            "scored": float(finite.sum()),
            "without_score": float(finite.size - finite.sum()),
            "directions": float(len(np.unique(self._labels.directions))),
            **self._features.metrics,
        }
        if np.isfinite(ridge.held_out_S).all():
            metrics["held_out_correlation"] = float(ridge.held_out_S.mean())
        if scores_NS.shape[1] > 1:
            best = np.nan_to_num(scores_NS[rows], nan=-np.inf).argmax(axis=1)
            metrics["subtask_shares"] = (np.bincount(best, minlength=scores_NS.shape[1]) / len(rows)).tolist()
        return metrics


def _log_weights(scores_N: Scores, temperature: float) -> Scores:
    """Log weights of a draw; all the same where all scores are, to rounding."""
    finite = np.isfinite(scores_N)
    known = scores_N[finite]
    spread = float(known.std())
    if spread <= 1e-12 * float(np.abs(known).max(initial=0.0)):
        return np.where(finite, 0.0, -np.inf)
    return np.where(finite, (scores_N - known.mean()) / spread / temperature, -np.inf)
