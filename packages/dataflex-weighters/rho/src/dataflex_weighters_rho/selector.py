"""The selector ``rho``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Candidates, ComponentError, RunContext, Selection, Selector
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import gumbel_top_k, standardised_log_weights, top_k
from dataflex.scoring.candidates import check_enough, draw_candidates, draw_of_groups, places_in_groups
from dataflex.scoring.reference.params import ReferenceLosses
from dataflex_weighters_rho.excess import RunReference
from dataflex_weighters_rho.params import Mode, RhoSelectorParams

if TYPE_CHECKING:
    from torch import nn

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


class RhoSelector(Selector):
    """Prefer samples whose mean loss lies furthest above the reference's: learnable, and not learnt yet.

    Source: Mindermann et al. 2022 (arXiv 2206.07137), equation 3.

    Raises:
        ConfigError: at construction, when the reference cannot be loaded or has another vocabulary.
    """

    params: RhoSelectorParams
    context: RunContext

    def __init__(self, params: RhoSelectorParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._reference = RunReference(params, context, "selector 'rho'")

    def select(
        self, model: nn.Module, step_id: int, num_samples: int, candidates: Candidates | None = None, **kwargs: Any
    ) -> Selection:
        """Score the candidates with the current weights and choose among them, within each domain beside a mixer.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw.
            ComponentError: when too few candidates have a finite score.
        """
        context, params, rng = self.context, self.params, self.context.rng(step_id)
        pool_size, limit = len(self.dataset), params.max_candidates
        if candidates is None:
            rows = draw_candidates(pool_size, limit, rng, log=context.rank == 0)
            check_enough(len(rows), num_samples, step_id, pool_size=pool_size, limit=limit, passes=params.passes)
        else:
            rows = draw_of_groups(candidates, limit, rng)
        drawn = per_pass(num_samples, params.passes)
        screened = context.screened(model, rows, params.screen, step=step_id, num_samples=drawn, facts=kwargs)
        key = "rho" if context.scores_only else None  # of a pool that is only scored, nothing else survives a kill
        found = context.losses(model, screened.rows, token_budget=params.token_budget, key=key)
        scores = np.full(pool_size, np.nan)
        scores[screened.rows] = found.means[screened.rows] - self._reference.losses.row_means(context, screened.rows)
        rows = screened.survivors
        chosen = np.zeros(0, np.int64)
        for places, count in places_in_groups(candidates, rows, drawn):
            _check_scored(scores[rows[places]], count, step_id)
            chosen = np.append(chosen, rows[places][choose(scores[rows[places]], count, params, rng)])
        known = scores[screened.rows][np.isfinite(scores[screened.rows])]
        metrics: dict[str, float | list[float]] = {
            "scored": float(len(screened.rows)),
            "non_finite": float(found.non_finite),
            "score_quantiles": np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "seconds": found.seconds,
            "samples_per_second": found.rows_per_second,
            **({} if limit is None else {"max_candidates": float(limit)}),
            **screened.metrics(scores),
        }
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, metrics, scores)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward pass of each row; live, another one of the reference, taken to be as large as the model."""
        return RowCost(forward=2.0 if self.params.reference_losses is ReferenceLosses.LIVE else 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Which pool and reference."""
        return self._reference.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare them with this run's."""
        self._reference.load_state_dict(state)


def choose(scores: Scores, count: int, params: RhoSelectorParams, rng: np.random.Generator) -> Rows:
    """Choose places by score, in random order: ranked, every part of the stage would see another mix."""
    if params.mode is Mode.TOP:
        return rng.permutation(top_k(scores, count))
    return rng.permutation(gumbel_top_k(standardised_log_weights(scores, params.temperature), count, rng))


def _check_scored(scores: Scores, count: int, step: int) -> None:
    usable = int(np.isfinite(scores).sum())
    if usable < count:
        raise ComponentError(
            f"only {usable} of {len(scores)} candidates at step {step} have a finite excess loss and {count} are "
            "needed (the others have no target token, or the model has diverged). Look at the training loss, raise "
            "cutoff_len if answers were cut off, or lower update_step."
        )
