"""The selector ``margin``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.topk import top_k
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex_selectors_margin.params import MarginParams

if TYPE_CHECKING:
    from torch import nn

Margins = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class MarginSelector(Selector):
    """Choose pairs by their margin: the reward of the chosen answer less that of the rejected one.

    Under ``stage: dpo`` a reward is what the stage's Trainer logs under ``rewards/``: beta times the log probability of
    the answer, less that of the reference model where there is one. Under ``stage: rm`` it is the value of the head.

    Paper: Rafailov et al. 2023 (arXiv 2305.18290), where a language model is its own reward model.
    """

    params: MarginParams
    context: RunContext

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Score the candidates with the current weights and choose among them.

        Raises:
            ConfigError: when there are fewer candidates, or pairs inside the band, than pairs to draw.
            ComponentError: when no candidate has a finite margin.
        """
        context, params, pool_size = self.context, self.params, len(self.dataset)
        rng = context.rng(step_id)
        rows = draw_candidates(pool_size, params.max_candidates, rng, log=context.rank == 0)
        drawn, limit = per_pass(num_samples, params.passes), params.max_candidates
        check_enough(len(rows), num_samples, step_id, pool_size=pool_size, limit=limit, passes=params.passes)
        key = "margin" if context.scores_only else None  # of a pool that is only scored, nothing else survives a kill
        found = context.preferences(model, rows, token_budget=params.token_budget, key=key)
        margins = found.margins[rows]
        finite = margins[np.isfinite(margins)]
        if not len(finite):
            raise ComponentError(
                f"none of the {len(rows)} pairs at step {step_id} has a finite margin. Look at the training loss: "
                "lower the learning rate if the model has diverged."
            )
        inside = in_band(margins, params.quantiles)
        metrics: dict[str, float | list[float]] = {
            "scored": float(len(rows)),
            "non_finite": float(len(rows) - len(finite)),
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "accuracy": float((finite > 0).mean()),
            "in_band": float(len(inside)),
            "seconds": found.seconds,
            "samples_per_second": found.rows_per_second,
            **({} if limit is None else {"max_candidates": float(limit)}),
        }
        if params.mode == "band":
            self._check_band(len(inside), drawn, len(rows), step_id)
            chosen = rng.choice(inside, size=drawn, replace=False)
        else:  # ranked; shuffled, every part of the stage sees the same mix
            chosen = rng.permutation(top_k(margins if params.mode == "top" else -margins, drawn))
        plan = read_again(rows[chosen], num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, metrics, found.margins)

    def _check_band(self, inside: int, needed: int, candidates: int, step: int) -> None:
        if inside < needed:
            low, high = self.params.quantiles
            raise ConfigError(
                f"the boundary at step {step} draws {needed} pairs, and the band from {low} to {high} "
                f"(component_params.quantiles) holds {inside} of {candidates}. Widen quantiles, raise max_candidates "
                "or passes, or lower update_step or the batch size."
            )


def in_band(margins: Margins, quantiles: tuple[float, float]) -> Rows:
    """Places of the margins from one quantile of the finite ones to the other, both included."""
    low, high = np.quantile(margins[np.isfinite(margins)], quantiles)
    return np.flatnonzero((margins >= low) & (margins <= high)).astype(np.int64)
