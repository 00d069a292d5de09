"""The selector ``loss``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, RunContext, Selection, Selector
from dataflex.components.passes import Facts
from dataflex.math.bands import in_band
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import gumbel_top_k, top_k, weighted_with_replacement
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex_selectors_loss.params import LossParams

if TYPE_CHECKING:
    from torch import nn

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class LossSelector(Selector):
    """Prefer samples by their loss under the current model: the mean next-token loss, or that of a preference.

    ``mode: sample`` draws at random with weight ``focus_weight`` inside one band of the losses and 1 outside, raised
    to 1/temperature; without replacement by the Gumbel-top-k trick. ``mode: top`` takes the highest losses.
    Loss is the mean over a sample's target tokens: a sum would rank long answers first. Under ``stage: dpo``, ``rm``
    and ``kto`` it is the stage's own loss of each row, as its Trainer computes it.

    Papers: Loshchilov & Hutter 2016 (arXiv 1511.06343), online batch selection by loss; Kool et al. 2019
    (arXiv 1903.06059), Gumbel-top-k.
    """

    params: LossParams
    context: RunContext

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Score the candidates with the current weights and choose among them.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw without replacement.
            ComponentError: when no candidate has a finite loss.
        """
        context, limit, pool_size = self.context, self.params.max_candidates, len(self.dataset)
        rng = context.rng(step_id)
        rows = draw_candidates(pool_size, limit, rng, log=context.rank == 0)
        passes, replacement = self.params.passes, self.params.replacement
        drawn = per_pass(num_samples, passes)
        again = ", or set component_params.replacement: true"
        least, times = (1, 1) if replacement else (num_samples, passes)
        least_rows = 1 if replacement else drawn
        check_enough(len(rows), least, step_id, pool_size=pool_size, limit=limit, passes=times, advice=again)
        screened = context.screened(model, rows, self.params.screen, step=step_id, num_samples=least_rows, facts=kwargs)
        key = "loss" if context.scores_only else None  # of a pool that is only scored, nothing else survives a kill
        found, scores, without = self._scored(model, screened.rows, key)
        rows = screened.survivors
        losses = scores[rows]
        finite = losses[np.isfinite(losses)]
        if not len(finite):
            raise ComponentError(
                f"none of the {len(rows)} candidates at step {step_id} has a finite loss ({found.non_finite} are NaN "
                "or infinite, the others have no target token). Look at the training loss: lower the learning rate if "
                "the model has diverged, raise cutoff_len if the answers were cut off."
            )
        metrics: dict[str, float | list[float]] = {
            "scored": float(len(screened.rows)),
            "non_finite": float(found.non_finite),
            "without_targets": without,
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "seconds": found.seconds,
            "samples_per_second": found.rows_per_second,
            **({} if limit is None else {"max_candidates": float(limit)}),
            **screened.metrics(scores),
        }
        chosen = rows[self._choose(losses, drawn, rng)]
        plan = read_again(chosen, num_samples, passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, metrics, scores)

    def scoring_cost(self, model: nn.Module) -> RowCost | None:
        """A forward pass of each row; not said of preferences, where a training row has more passes than one too."""
        return RowCost() if self.context.objective is None else None

    def _scored(self, model: nn.Module, rows: Rows, key: str | None) -> tuple[Facts, Scores, float]:
        """The loss that training minimises, of each row: the facts of the pass, losses, rows without target tokens."""
        context, budget = self.context, self.params.token_budget
        if context.objective is not None:
            preferences = context.preferences(model, rows, token_budget=budget, key=key)
            return preferences, preferences.losses, 0.0
        found = context.losses(model, rows, token_budget=budget, key=key)
        return found, found.means, float(np.count_nonzero(found.targets[rows] == 0))

    def _choose(self, losses: Scores, num_samples: int, rng: np.random.Generator) -> Rows:
        # Both choices come ranked; shuffled, every part of the stage sees the same mix.
        if self.params.mode == "top":
            return rng.permutation(top_k(losses, num_samples))
        log_weights = focus_log_weights(losses, self.params)
        if self.params.replacement:
            return weighted_with_replacement(np.exp(log_weights - log_weights.max()), num_samples, rng)
        return rng.permutation(gumbel_top_k(log_weights, num_samples, rng))


def focus_log_weights(losses: Scores, params: LossParams) -> Scores:
    """Log of each sample's weight, shape as ``losses``; -inf for a loss that is not finite.

    Bands lie between the quantiles q1 < q2 of the finite losses: low is ``loss <= q1``, medium ``q1 < loss <= q2``,
    high ``loss > q2``.
    """
    band = in_band(losses, params.quantiles, params.focus)
    log_weights = np.where(band, np.log(params.focus_weight) / params.temperature, 0.0)
    return np.where(np.isfinite(losses), log_weights, -np.inf)
