"""The selectors ``lexical`` and ``dsir``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Candidates, ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.math.aggregation import aggregate, round_robin
from dataflex.math.draws import by_score, with_share
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import gumbel_top_k, top_k
from dataflex.scoring.candidates import check_enough, places_in_groups
from dataflex.scoring.subtasks import subtasks_of
from dataflex_selectors_lexical.params import LexicalParams
from dataflex_selectors_lexical.scoring import REASONS, Found, score_pool
from dataflex_selectors_lexical.weights import LOW_SEPARATION, log_weights

if TYPE_CHECKING:
    from torch import nn

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class LexicalSelector(Selector):
    """Prefer rows whose n-grams of token ids are those of the eval set. No model is asked.

    Score of a row: the mean (or sum) over its n-grams of ``log(share in the target / share in the pool)``, over hashed
    buckets. ``mode: sample`` draws without replacement with weight ``exp(score / (temperature * deviation))``.

    Paper: Xie et al. 2023, "Data Selection for Language Models via Importance Resampling" (DSIR), arXiv 2302.03169.
    """

    params: LexicalParams
    context: RunContext

    def __init__(self, params: LexicalParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._found: Found | None = None

    def select(
        self,
        model: nn.Module,
        step_id: int,
        num_samples: int,
        candidates: Candidates | None = None,
        **kwargs: Any,
    ) -> Selection:
        """Score the pool, once a process, and choose, within each domain beside a mixer. The model is not used.

        Raises:
            ConfigError: when the pool has fewer rows than are drawn, there is no eval set, or ``part`` is ``prompt`` in
                pretraining.
            ComponentError: when too few rows have a score, or no row of a target has an n-gram.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.part == "prompt" and context.stage == "pt":
            raise ConfigError("part is prompt, and rows of stage: pt have none. Set component_params.part: all.")
        size, chosen_at_once = len(self.dataset), per_pass(num_samples, params.passes)
        if candidates is None:
            check_enough(size, num_samples, step_id, pool_size=size, limit=None, passes=params.passes)
        found = self._score()
        rng, by_chance, chosen = context.rng(step_id), context.rng(step_id, "share"), []
        for places, count in places_in_groups(candidates, np.arange(size), chosen_at_once):
            scores_NS = found.scores[places]
            self._check_scored(scores_NS, count, step_id, "the pool" if candidates is None else "a domain")
            best = places[self._choose(scores_NS, by_score(count, params.share), rng)]
            chosen.append(with_share(best, places, count, by_chance))
        rows = np.concatenate(chosen)
        scores = aggregate(found.scores, params.aggregate)
        metrics = self._metrics(found, scores, rows) | {"seconds": time.monotonic() - began}
        plan = read_again(rows, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, metrics, scores)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """No pass of the model."""
        return RowCost(forward=0.0)

    def _score(self) -> Found:
        """The scores, which are of the tokens alone: those of the first boundary serve the later ones."""
        if self._found is None:
            began, context = time.monotonic(), self.context
            targets = subtasks_of(context.eval_datasets, None, self.params.targets, who="A lexical score")
            self._found = score_pool(context, targets, self.params)
            if context.rank == 0:
                names = [target.name for target in targets]
                _report(self._found, names, len(self.dataset), time.monotonic() - began)
        return self._found

    def _check_scored(self, scores_NS: Scores, needed: int, step: int, whose: str) -> None:
        usable, size = int(np.isfinite(scores_NS).all(axis=1).sum()), len(scores_NS)
        if usable < needed:
            raise ComponentError(
                f"only {usable} of {whose}'s {size} rows have a score and {needed} are needed at step {step}: "
                f"{size - usable} have {REASONS[self.params.part]}. Set component_params.part: all, look at the data, "
                "or lower update_step."
            )

    def _choose(self, scores_NS: Scores, count: int, rng: np.random.Generator) -> Rows:
        # All three come ranked; shuffled, every part of the stage sees the same mix.
        if self.params.aggregate == "round_robin":
            return rng.permutation(round_robin(scores_NS, count))
        scores_N = aggregate(scores_NS, self.params.aggregate)
        if self.params.mode == "top":
            return rng.permutation(top_k(scores_N, count))
        return rng.permutation(gumbel_top_k(log_weights(scores_N, self.params.temperature), count, rng))

    def _metrics(self, found: Found, scores_N: Scores, rows: Rows) -> dict[str, float | list[float]]:
        finite = scores_N[np.isfinite(scores_N)]
        metrics: dict[str, float | list[float]] = {
            "scored": float(len(finite)),
            "without_score": float(len(scores_N) - len(finite)),
            "validation": float(sum(found.target_rows)),
            "tokens": float(found.tokens),
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }
        known = [value for value in found.separations if np.isfinite(value)]
        if known:
            metrics["separation"] = float(np.mean(known))
        if len(found.separations) > 1:
            best = np.nan_to_num(found.scores[rows], nan=-np.inf).argmax(axis=1)
            metrics["subtask_shares"] = (np.bincount(best, minlength=len(found.separations)) / len(rows)).tolist()
            if len(known) == len(found.separations):
                metrics["subtask_separations"] = known
        return metrics


def _report(found: Found, names: Sequence[str], rows: int, seconds: float) -> None:
    """Say once what was found, and warn where words do not tell."""
    aims = ", ".join(f"{name} ({count})" for name, count in zip(names, found.target_rows, strict=True))
    logger.info("scored %d rows (%d tokens) by their words against %s in %.1f s.", rows, found.tokens, aims, seconds)
    for name, separation in zip(names, found.separations, strict=True):
        if separation < LOW_SEPARATION:
            logger.warning(
                "words hardly tell the rows of the eval set %r from those of the pool: held-out separation %.2f, where "
                "0.5 is chance and 1 is perfect. This selection is close to a random one; a selector that asks the "
                "model, such as less, may see what words do not.",
                name,
                separation,
            )
