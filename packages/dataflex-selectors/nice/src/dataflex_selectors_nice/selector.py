"""The selector ``nice``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.math.aggregation import aggregate, round_robin
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import top_k
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex.scoring.subtasks import subtasks_of
from dataflex.scoring.validation import ValidationRows, names_of
from dataflex_selectors_nice.params import NiceParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import Subtask
    from dataflex.gradients.cosines import Cosines, CosineScorer
    from dataflex_selectors_nice.aiming import Aim
    from dataflex_selectors_nice.judging import Judge

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

_NOT_PART_OF_SCORES = ("passes", "aggregate", "token_budget", "max_candidates")


class NiceSelector(Selector):
    """Prefer samples whose gradient points where the model's own answers to the eval set earn more reward.

    As LESS, with another vector for each validation row: the model answers its prompt several times, each answer gets
    a reward, and the row's vector estimates the gradient of minus the expected reward (REINFORCE, Williams 1992), with
    the mean reward of the row's other answers as baseline.

    Paper: NICE, ICML 2025, OpenReview 2wt8m5HUBs; candidates as Xia et al. 2024, arXiv 2402.04333.
    """

    params: NiceParams
    context: RunContext

    def __init__(self, params: NiceParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._validation = ValidationRows(context, params.max_validation)
        self._scorer: CosineScorer | None = None
        self._judge: Judge | None = None

    def begin(self, model: nn.Module) -> None:
        """Find the reward's function before the first step is made."""
        self._rewards()

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Sample and judge answers, score the candidates with the current weights and choose among them.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw, no eval set, no memory for the validation
                directions, or no reward.
            ComponentError: when no answer earns more than another, too few candidates have a finite score, or the
                optimizer holds no moments.
        """
        from dataflex_selectors_nice.aiming import aim

        began, context, params = time.monotonic(), self.context, self.params
        rng, size = context.rng(step_id), len(self.dataset)
        rows = draw_candidates(size, params.max_candidates, rng, log=context.rank == 0)
        check_enough(len(rows), num_samples, step_id, pool_size=size, limit=params.max_candidates, passes=params.passes)
        subtasks, drawn = self._subtasks(), per_pass(num_samples, params.passes)
        _refuse_spread(model, context)
        aimed = aim(context, params, self._rewards(), model, subtasks, step_id)
        sampled = time.monotonic() - began
        found = self._score(model, rows, aimed, step_id)
        table = found.values
        _check_scored(found, rows, drawn, step_id)
        if params.aggregate == "round_robin":
            chosen = rows[round_robin(table[rows], drawn)]
        else:
            chosen = rows[top_k(aggregate(table[rows], params.aggregate), drawn)]
        metrics = self._metrics(found, rows, aimed)
        metrics["sampling_seconds"], metrics["seconds"] = sampled, time.monotonic() - began
        if context.rank == 0:
            self._report(metrics, subtasks, step_id)
        chosen = rng.permutation(chosen)  # ranked, every part of the stage would see another mix
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        by_target = dict(zip(names_of(subtasks), table.T, strict=True))
        return Selection(plan, metrics, aggregate(table, params.aggregate), target_scores=by_target)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward and a backward pass of each row; at every boundary each validation row's answers once, and their
        sampling, counted as a forward pass of each: token by token it takes longer.
        """
        answers = self.params.mc_samples * sum(len(subtask.rows) for subtask in self._subtasks())
        return RowCost(backward=True, validation=-(-4 * answers // 3))

    def state_dict(self) -> dict[str, Any]:
        """The rows aimed at under ``max_validation``."""
        return self._validation.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._validation.load_state_dict(state)

    def _subtasks(self) -> list[Subtask]:
        params = self.params
        found = subtasks_of(self.context.eval_datasets, params.subtask_column, params.targets, who="nice")
        return self._validation.of(found)

    def _rewards(self) -> Judge:
        if self._judge is None:
            from dataflex_selectors_nice.judging import Judge

            self._judge = Judge(self.params.reward, self.context)
        return self._judge

    def _score(self, model: nn.Module, rows: Rows, aimed: Aim, step: int) -> Cosines:
        from dataflex.gradients.comparing import check_direction_memory, steps_of
        from dataflex.gradients.cosines import CosineScorer

        params = self.params
        if self._scorer is None:
            self._scorer = CosineScorer(
                self.context,
                parameters=params.parameters,
                token_budget=params.token_budget,
                projection=params.proj_dim if params.projection == "sjlt" else None,
                who="nice",
            )
        now = self._scorer.at(model)
        steps = steps_of(self.context, now.parameters, params.preconditioner)
        check_direction_memory(sum(now.sizes.values()), len(aimed.subtasks), params.direction_memory_gb)
        settings = {**dataclasses.asdict(params), "shard_seconds": 0, "step": step}
        for name in _NOT_PART_OF_SCORES:
            del settings[name]
        seconds = params.shard_seconds
        return now.score(aimed.subtasks, rows, steps=steps, key="nice", settings=settings, shard_seconds=seconds)

    def _metrics(self, found: Cosines, rows: Rows, aimed: Aim) -> Metrics:
        rewards = [[reward for each in judged for reward in each.rewards] for judged in aimed.judged]
        lengths = [len(answer) for judged in aimed.judged for each in judged for answer in each.answers]
        most = self.params.max_new_tokens
        return {
            "scored": float(len(rows)),
            "resumed": float(found.resumed),
            "non_finite": float(found.non_finite),
            "without_targets": float(np.count_nonzero(found.targets[rows] == 0)),
            "validation": float(sum(len(judged) for judged in aimed.judged)),
            "validation_with_signal": float(sum(len(np.unique(each.groups)) for each in aimed.subtasks)),
            "validation_left_out": float(aimed.left_out),
            "validation_non_finite": float(found.validation.lost),
            "validation_zero": float(found.validation.flat),
            "validation_seconds": found.validation_seconds,
            "reward_means": [float(np.mean(each)) for each in rewards],
            "answer_tokens": float(np.mean(lengths)),
            "answers_cut_off": float(np.mean([length == most for length in lengths])),
            "samples_per_second": found.rows_per_second,
            "one_by_one": float(bool(found.one_by_one)),
        }

    def _report(self, metrics: Metrics, subtasks: Sequence[Subtask], step: int) -> None:
        rewards = metrics["reward_means"]
        assert isinstance(rewards, list)
        logger.info(
            "nice at step %d: mean reward %s; %d of %d validation rows have a signal; scored %d samples in %.1f s, of "
            "which sampling answers took %.1f s.",
            step,
            ", ".join(f"{name} {mean:.4g}" for name, mean in zip(names_of(subtasks), rewards, strict=True)),
            *(
                metrics[name]
                for name in ("validation_with_signal", "validation", "scored", "seconds", "sampling_seconds")
            ),
        )
        params = self.params
        if params.generation_temperature != 1 or params.top_p != 1:
            logger.warning(
                "generation_temperature: %g and top_p: %g sample another distribution than the one whose gradient is "
                "taken, so the expected reward's gradient is estimated with a bias.",
                *(params.generation_temperature, params.top_p),
            )


def _refuse_spread(model: nn.Module, context: RunContext) -> None:
    from dataflex.lockstep import is_collective

    if is_collective(model, context.accelerator):
        raise ConfigError(
            "nice samples answers of different lengths on each rank, and this model's parameters are spread over "
            "ranks, so that every token is an exchange between them. Use DDP or ZeRO-2."
        )


def _check_scored(found: Cosines, rows: Rows, needed: int, step: int) -> None:
    usable = int(np.isfinite(found.values[rows]).all(axis=1).sum())
    if usable < needed:
        raise ComponentError(
            f"only {usable} of {len(rows)} candidates at step {step} have a score and {needed} are needed "
            f"({found.non_finite} have a gradient that is zero or not finite, "
            f"{int((found.targets[rows] == 0).sum())} no target token). Look at the training loss: lower the learning "
            "rate if the model has diverged, raise cutoff_len if the answers were cut off; or lower update_step."
        )
