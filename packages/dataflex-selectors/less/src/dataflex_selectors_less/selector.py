"""The selector ``less``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Candidates, ComponentError, RunContext, Selection, Selector
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.votes import thresholds
from dataflex.scoring.candidates import check_enough, draw_candidates, draw_of_groups, places_in_groups
from dataflex.scoring.validation import ValidationRows, names_of
from dataflex_selectors_less.history import History
from dataflex_selectors_less.params import LessParams
from dataflex_selectors_less.ranking import choose, combine, vote_share
from dataflex_selectors_less.reporting import Metrics, report
from dataflex_selectors_less.subtasks import subtasks_of

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import Subtask
    from dataflex.gradients.cosines import Cosines, CosineScorer

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class LessSelector(Selector):
    """Prefer samples whose gradient points where the gradients of the eval set do.

    Score of a candidate: the highest, over subtasks, of the mean cosine between its Adam step and the gradients of
    the subtask's validation samples, all under the current weights. Exact by default: gradients are compared whole,
    without a projection, and none is stored (see :mod:`dataflex.gradients.cosines`).

    Paper: Xia et al. 2024, "LESS: Selecting Influential Data for Targeted Instruction Tuning", arXiv 2402.04333.
    """

    params: LessParams
    context: RunContext

    def __init__(self, params: LessParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._history = History()
        self._validation = ValidationRows(context, params.max_validation)
        self._scorer: CosineScorer | None = None

    def select(
        self,
        model: nn.Module,
        step_id: int,
        num_samples: int,
        candidates: Candidates | None = None,
        **kwargs: Any,
    ) -> Selection:
        """Score the candidates with the current weights and choose among them, within each domain beside a mixer.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw, no eval set, or no memory for the
                validation directions.
            ComponentError: when too few candidates have a finite score, or the optimizer holds no moments.
        """
        began, context, params = time.monotonic(), self.context, self.params
        rng = context.rng(step_id)
        pool_size, limit = len(self.dataset), params.max_candidates
        if candidates is None:
            rows = draw_candidates(pool_size, limit, rng, log=context.rank == 0)
            check_enough(len(rows), num_samples, step_id, pool_size=pool_size, limit=limit, passes=params.passes)
        else:
            rows = draw_of_groups(candidates, limit, rng)
        drawn = per_pass(num_samples, params.passes)
        screened = context.screened(model, rows, params.screen, step=step_id, num_samples=drawn, facts=kwargs)
        subtasks = self._subtasks()
        found = self._score(model, screened.rows, subtasks, step_id)
        history = self._history
        if params.history:
            history = history.plus(step_id, self._learning_rate(), found.values)
        table = found.values
        if params.history:
            table = np.full(found.values.shape, np.nan)
            table[screened.rows] = history.mean(screened.rows)
        rows, cosines = screened.survivors, table[screened.survivors]
        chosen = np.zeros(0, np.int64)
        for places, count in places_in_groups(candidates, rows, drawn):
            _check_scored(found, rows[places], cosines[places], count, step_id)
            chosen = np.append(chosen, rows[places][choose(cosines[places], count, params, rng)])
        scores = np.full(pool_size, np.nan)
        scores[screened.rows] = combine(table[screened.rows], params, drawn)
        metrics = self._metrics(found, screened.rows, subtasks, chosen)
        metrics |= screened.metrics(scores) | self._voting(cosines, drawn)
        metrics["seconds"] = time.monotonic() - began
        scores[rows] = combine(cosines, params, drawn)  # votes are counted among the rows that may be chosen
        if context.rank == 0:
            report(metrics, subtasks, step_id, context.accelerator, params.component)
        self._history = history
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        by_target = dict(zip(names_of(subtasks), table.T, strict=True))
        return Selection(plan, metrics, scores, target_scores=by_target)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward and a backward pass of each row, and two of each validation row at every boundary."""
        validation = sum(len(subtask.rows) for subtask in self._subtasks())
        return RowCost(backward=True, validation=2 * validation)

    def state_dict(self) -> dict[str, Any]:
        """The rows aimed at under ``max_validation`` and, with ``history``, the weighted sums of all scores so far."""
        return {**self._history.state_dict(), **self._validation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both; the ``last_rows`` of a checkpoint of version 0.1 are not needed."""
        self._history = History.from_state(state)
        self._validation.load_state_dict(state)

    def _subtasks(self) -> list[Subtask]:
        params = self.params
        found = subtasks_of(self.context.eval_datasets, params.subtask_column, params.targets, params.task_boundaries)
        return self._validation.of(found)

    def _voting(self, cosines: Scores, drawn: int) -> Metrics:
        """From which cosine on each subtask votes for a row."""
        if self.params.aggregate != "votes":
            return {}
        return {"vote_thresholds": thresholds(cosines, vote_share(cosines, self.params, drawn)).tolist()}

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
                who=params.component,
            )
        at_this_step = self._scorer.at(model)
        steps = steps_of(self.context, at_this_step.parameters, params.preconditioner)
        check_direction_memory(sum(at_this_step.sizes.values()), len(subtasks), params.direction_memory_gb)
        settings = {**dataclasses.asdict(params), "shard_seconds": 0, "step": step}
        del settings["passes"], settings["screen"]  # what is done with the scores, and what named the rows
        key, seconds = params.component, params.shard_seconds
        return at_this_step.score(subtasks, rows, steps=steps, key=key, settings=settings, shard_seconds=seconds)

    def _metrics(self, found: Cosines, rows: Rows, subtasks: Sequence[Subtask], chosen: Rows) -> Metrics:
        best = np.nan_to_num(found.values[chosen], nan=-np.inf).argmax(axis=1)
        metrics: Metrics = {
            "scored": float(len(rows)),
            "resumed": float(found.resumed),
            "validation": float(sum(len(subtask.rows) for subtask in subtasks)),
            "validation_non_finite": float(found.validation.lost),
            "validation_zero": float(found.validation.flat),
            "validation_seconds": found.validation_seconds,
            "samples_per_second": found.rows_per_second,
            "gradient_size": float(found.size),
            "excluded_parameters": float(len(found.excluded)),
            "one_by_one": float(bool(found.one_by_one)),
            "preconditioned": float(found.preconditioned),
            "non_finite": float(found.non_finite),
            "without_targets": float(_without_targets(found, rows)),
            "subtask_maxima": np.nanmax(found.values, axis=0).tolist(),
            "subtask_shares": (np.bincount(best, minlength=len(subtasks)) / len(chosen)).tolist(),
        }
        if self.params.max_candidates is not None:
            metrics["max_candidates"] = float(self.params.max_candidates)
        return metrics

    def _learning_rate(self) -> float:
        scheduler, optimizer = self.context.scheduler(), self.context.optimizer()
        if scheduler is not None:
            return float(scheduler.get_last_lr()[0])
        return float(optimizer.param_groups[0]["lr"]) if optimizer is not None else 1.0


def _check_scored(found: Cosines, rows: Rows, cosines: Scores, num_samples: int, step: int) -> None:
    usable = int(np.isfinite(cosines).all(axis=1).sum())
    if usable < num_samples:
        raise ComponentError(
            f"only {usable} of {len(rows)} candidates at step {step} have a score and {num_samples} are needed "
            f"({found.non_finite} have a gradient that is zero or not finite, {_without_targets(found, rows)} no "
            "target token). Look at the training loss: lower the learning rate if the model has diverged, raise "
            "cutoff_len if the answers were cut off; or lower update_step."
        )


def _without_targets(found: Cosines, rows: Rows) -> int:
    return int((found.targets[rows] == 0).sum())
