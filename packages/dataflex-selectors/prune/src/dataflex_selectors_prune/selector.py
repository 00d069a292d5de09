"""The selector ``prune``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ConfigError, RunContext, Selection, Selector
from dataflex.components.selector import logger, random_rows
from dataflex_selectors_prune.params import PruneParams
from dataflex_selectors_prune.pruning import Pass, pruned_pass, whole_pass
from dataflex_selectors_prune.scores import RowScores

if TYPE_CHECKING:
    from torch import nn

Metrics = dict[str, float | list[float]]

_ROUNDING = 1e-9  # .07 of 100 steps is a little more than 7

_NOTHING = Pass(np.zeros(0, np.int64), np.zeros(0))


class PruneSelector(Selector):
    """Read the pool pass after pass, and leave out part of the rows whose last loss was below the mean.

    Those of them that are read weigh n/m in the loss, so that a pass has the gradient of the whole pool as its
    expectation. The first pass reads every row, and so do passes that begin late in the run. A stage may cut a pass in
    two: the next one goes on with it.

    Paper: Qin et al. 2024, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", arXiv 2303.04947.
    """

    params: PruneParams
    context: RunContext

    def __init__(self, params: PruneParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._scores = RowScores(len(self.dataset), evolved=params.score == "es")
        self._left = _NOTHING  # of the pass under way, what has not been served
        self._passes, self._skipped = 0, 0

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Serve what is left of the pass, then as many more as the stage needs. The model is not used.

        Raises:
            ConfigError: when only scores are wanted and training has seen no row.
        """
        if self.context.scores_only:
            self._require_scores()
        if not self.params.ratio:
            return Selection(random_rows(self.context.rng(step_id), len(self.dataset), num_samples))
        left, passes, skipped = self._left, self._passes, self._skipped
        if not passes and self.context.rank == 0:
            self._say_if_too_short(step_id)
        parts: list[Pass] = []
        metrics: Metrics = {}
        served = 0
        while served < num_samples:
            if not len(left.rows):
                passes += 1
                left = self._begin_pass(passes, step_id + served / self.context.global_batch)
                skipped += left.below - left.kept
                metrics |= {"below": float(left.below), "kept": float(left.kept), "mean_score": left.mean}
            taken, left = _cut(left, num_samples - served)
            parts.append(taken)
            served += len(taken.rows)
        rows = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])
        weights = np.concatenate([np.zeros(0), *(part.weights for part in parts)])
        metrics |= {"passes": float(passes), "skipped": float(skipped)}
        self._left, self._passes, self._skipped = left, passes, skipped
        metrics = {name: value for name, value in metrics.items() if value == value}
        known = np.isfinite(self._scores.values).any()
        scores = self._scores.values.copy() if known else None
        return Selection(rows, metrics, scores, weights=None if (weights == 1).all() else weights)

    def on_rows(
        self,
        step: int,
        rows: npt.NDArray[np.int64],
        losses: npt.NDArray[np.float64] | None = None,
        labels: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Keep the losses of the rows that a step trained on, the warm-up's included."""
        if self.params.ratio and losses is not None:
            self._scores.see(rows, losses)

    def state_dict(self) -> dict[str, Any]:
        """The scores, what is left of the pass, and how far the passes have come; nothing with ``ratio: 0``."""
        if not self.params.ratio:
            return {}
        left = {"rows": self._left.rows, "weights": self._left.weights}
        return {**self._scores.state_dict(), **left, "passes": self._passes, "skipped": self._skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._scores.load_state_dict(state)
        self._left = Pass(np.array(state["rows"], np.int64), np.array(state["weights"], np.float64))
        self._passes, self._skipped = int(state["passes"]), int(state["skipped"])

    def _begin_pass(self, number: int, step: float) -> Pass:
        rng, total = self.context.rng(0, "prune", number), self.context.total_steps
        late = total is not None and step >= self.params.until * total - _ROUNDING * total
        if number == 1 or late:
            return whole_pass(len(self.dataset), rng)
        return pruned_pass(self._scores.values, self.params.ratio, rng)

    def _require_scores(self) -> None:
        if not np.isfinite(self._scores.values).any():
            raise ConfigError(
                "prune scores rows by the losses that training has seen of them, and there are none"
                f"{'' if self.params.ratio else ' (with ratio: 0 none are kept)'}. Name a checkpoint of a run with "
                "prune (--checkpoint) and a ratio above 0, or score with --component loss."
            )

    def _say_if_too_short(self, step: int) -> None:
        total = self.context.total_steps
        rows = 0 if total is None else (total - step) * self.context.global_batch
        if total is not None and rows <= len(self.dataset):
            logger.warning(
                "prune: the run reads %d rows of a pool of %d past the warm-up, and the first pass leaves none out: it "
                "is random selection without replacement. Train more steps, or use the selector random.",
                *(rows, len(self.dataset)),
            )


def _cut(whole: Pass, count: int) -> tuple[Pass, Pass]:
    """The first ``count`` rows of a pass, and the rest."""
    return Pass(whole.rows[:count], whole.weights[:count]), Pass(whole.rows[count:], whole.weights[count:])
