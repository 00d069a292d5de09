"""The selector ``delta_loss``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.components.selector import random_rows
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import gumbel_top_k, weighted_with_replacement
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex_selectors_delta_loss.baseline import Baseline
from dataflex_selectors_delta_loss.params import DeltaLossParams
from dataflex_selectors_delta_loss.window import Window, progress, window

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import PoolLosses

Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

_FEW = 4  # boundaries, below which the window hardly moves


class DeltaLossSelector(Selector):
    """Prefer rows whose loss has fallen since the first boundary.

    The first boundary measures the losses that later ones compare with, and draws its stage at random. Each later one
    ranks rows by how far their loss has fallen and draws with weight 1 inside a window of that ranking and
    ``outside_weight`` outside. The window begins at the largest drops and ends at the smallest that are no rise.

    No paper: the selector of dataflex 1.x. Learning progress as a signal: Graves et al. 2017, arXiv 1704.03003.
    """

    params: DeltaLossParams
    context: RunContext

    def __init__(self, params: DeltaLossParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._baseline: Baseline | None = None

    def select(
        self,
        model: nn.Module,
        step_id: int,
        num_samples: int,
        current_update_times: int = 1,
        update_times: int = 1,
        **kwargs: Any,
    ) -> Selection:
        """Measure the losses, and choose by how far they have fallen.

        Raises:
            ConfigError: for a run of a single boundary, fewer candidates than samples to draw, or a pool that is scored
                without a checkpoint that has a baseline.
            ComponentError: when fewer candidates have a loss at both boundaries than are to be drawn.
        """
        before = self._baseline
        if before is None or (current_update_times == 1 and self.context.trains):
            return self._first(model, step_id, num_samples, update_times)
        if self.context.trains and update_times != before.boundaries:
            if self.context.rank == 0:
                logger.info(
                    "delta_loss: the run has %d boundaries now and had %d: the window moves by the new number.",
                    update_times,
                    before.boundaries,
                )
            before.boundaries = update_times
        found = self._losses(model, before.rows)
        drops = before.losses - found.means[before.rows]
        place = progress(current_update_times, before.boundaries, self.params.steepness)
        ranked = window(drops, place, self.params.window, self.params.outside_weight)
        drawn = per_pass(num_samples, self.params.passes)
        self._check_known(ranked, 1 if self.params.replacement else drawn, step_id)
        chosen = before.rows[self._draw(ranked, drawn, self.context.rng(step_id))]
        finite = drops[np.isfinite(drops)]
        metrics: Metrics = {
            **self._facts(found, before.rows),
            "known": float(ranked.known),
            "improved": float(ranked.improved),
            "window_start": float(ranked.start),
            "window_width": float(len(ranked.inside)),
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }
        if len(ranked.inside):
            metrics["seen_share"] = float(before.seen[before.rows[ranked.inside]].mean())
        scores = np.full(len(self.dataset), np.nan)
        scores[before.rows] = drops
        return Selection(self._read(chosen, num_samples, step_id), metrics, scores)

    def on_rows(
        self,
        step: int,
        rows: Rows,
        losses: npt.NDArray[np.float64] | None = None,
        labels: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Note which rows were trained on since the baseline."""
        if self._baseline is not None:
            self._baseline.seen[rows] = True

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward pass of each candidate at every boundary."""
        return RowCost()

    def state_dict(self) -> dict[str, Any]:
        """Losses of the first boundary, the candidates, and which rows were trained on since."""
        return {} if self._baseline is None else self._baseline.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._baseline = Baseline.from_state(state, len(self.dataset))

    def _first(self, model: nn.Module, step: int, num_samples: int, boundaries: int) -> Selection:
        context, params, size = self.context, self.params, len(self.dataset)
        if not context.trains:
            raise ConfigError(
                "delta_loss scores a row by how far its loss has fallen since the first boundary of a run, and there "
                "are no losses of one. Give a checkpoint of a run with delta_loss, of a step after its first boundary."
            )
        if boundaries < 2:
            raise ConfigError(
                f"delta_loss compares losses with those of its first boundary, and this run has {boundaries} boundary. "
                "Set update_times to 4 or more, or component_name: random."
            )
        if boundaries < _FEW and context.rank == 0:
            logger.warning(
                "delta_loss has %d boundaries, and the first only measures losses: its window hardly moves. Set "
                "update_times to %d or more.",
                boundaries,
                _FEW,
            )
        rng = context.rng(step)
        rows = draw_candidates(size, params.max_candidates, rng)
        again = ", or set component_params.replacement: true"
        least, times = (1, 1) if params.replacement else (num_samples, params.passes)
        limit = params.max_candidates
        check_enough(len(rows), least, step, pool_size=size, limit=limit, passes=times, advice=again)
        found = self._losses(model, rows)
        self._baseline = Baseline(step, boundaries, rows, found.means[rows], np.zeros(size, np.bool_))
        drawn = per_pass(num_samples, params.passes)
        chosen = random_rows(rng, size, drawn, replacement=params.replacement)
        return Selection(self._read(chosen, num_samples, step), self._facts(found, rows), np.full(size, np.nan))

    def _losses(self, model: nn.Module, rows: Rows) -> PoolLosses:
        key = None if self.context.trains else "delta_loss"  # of a pool that is only scored nothing else survives
        return self.context.losses(model, rows, token_budget=self.params.token_budget, key=key)

    def _facts(self, found: PoolLosses, rows: Rows) -> Metrics:
        metrics: Metrics = {
            "scored": float(len(rows)),
            "non_finite": float(found.non_finite),
            "without_targets": float(np.count_nonzero(found.targets[rows] == 0)),
            "seconds": found.seconds,
            "samples_per_second": found.rows_per_second,
        }
        if self.params.max_candidates is not None:
            metrics["max_candidates"] = float(self.params.max_candidates)
        return metrics

    def _check_known(self, ranked: Window, needed: int, step: int) -> None:
        if ranked.known < needed:
            raise ComponentError(
                f"only {ranked.known} of {len(ranked.log_weights)} candidates at step {step} have a finite loss now "
                f"and at the first boundary, and {needed} are needed. Look at the training loss: lower the learning "
                "rate if the model has diverged, raise cutoff_len if the answers were cut off; or lower update_step, "
                "or set component_params.replacement: true."
            )
        if not ranked.improved and self.context.rank == 0:
            logger.warning(
                "no loss at step %d is at or below that of the first boundary: all %d rows that are known have the "
                "same weight.",
                step,
                ranked.known,
            )

    def _draw(self, ranked: Window, count: int, rng: np.random.Generator) -> Rows:
        if self.params.replacement:
            return weighted_with_replacement(np.exp(ranked.log_weights), count, rng)
        return rng.permutation(gumbel_top_k(ranked.log_weights, count, rng))  # drawn, the favoured would come first

    def _read(self, chosen: Rows, num_samples: int, step: int) -> Rows:
        rng_of = self.context.rng
        return read_again(chosen, num_samples, self.params.passes, lambda number: rng_of(step, "pass", number))
