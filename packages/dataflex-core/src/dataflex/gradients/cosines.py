"""Cosines between the gradients of the pool's rows and those of validation samples, streamed: none is stored.

    directions   eval sets --> the mean of each one's unit gradients, added over ranks
    candidates   rows of the pool --> their cosines with the directions, kept on disk as they finish

The mean over a subtask's samples of cosines is an inner product with the mean of their unit vectors:
``mean_j cos(G_i, g_j) = <G_i, u_s> / |G_i|`` with ``u_s = mean_j g_j / |g_j|``. So only ``u_s`` is kept.

Shapes: S subtasks, N rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import GradientScores, Subtask
from dataflex.data.fingerprint import contents
from dataflex.gradients.coverage import Scope
from dataflex.gradients.directions import Validation, ValidationPass
from dataflex.gradients.grouped import GroupedSubtask
from dataflex.gradients.linear_adam import LinearAdam, LinearScoreSink
from dataflex.gradients.measuring import Measuring
from dataflex.gradients.preconditioning import AdamSteps
from dataflex.gradients.sink import GradientSink
from dataflex.gradients.sinks import ScoreSink
from dataflex.math.projection import SparseProjection
from dataflex.rng import rng_scope
from dataflex.scoring.passes import SHARD_SECONDS, open_store, valid_rows
from dataflex.scoring.progress import ScoringProgress


@dataclass(frozen=True, eq=False, kw_only=True)
class Cosines(GradientScores):
    """Cosines of rows of the pool: ``values`` has shape ``[pool, S]``, for one subtask too.

    Attributes:
        validation: What the pass over the subtasks found out.
        validation_seconds: Until the candidate pass that counts began.
        preconditioned: Whether candidates were compared by Adam's steps, taken as linear or not.
    """

    validation: Validation
    validation_seconds: float
    preconditioned: bool


class CosineScorer:
    """Compares rows of the pool with validation samples. A component keeps one for the whole run.

    Args:
        context: The run.
        parameters: Whose gradients: of all trainable parameters, or of linear layers only.
        token_budget: Padded tokens of one batch; ``None`` for what suits the device.
        projection: Width of a sparse random projection, for directions that do not fit into memory; ``None`` compares
            gradients whole.
        who: The component's name, for messages.

    Example:
        >>> scorer = CosineScorer(self.context, who="mine")
        >>> subtasks = [Subtask(name, data, np.arange(len(data))) for name, data in self.context.eval_datasets.items()]
        >>> scorer.at(model).score(subtasks, rows).values.max(axis=1)
    """

    def __init__(
        self,
        context: RunContext,
        *,
        parameters: Literal["all", "linear"] = "all",
        token_budget: int | None = None,
        projection: int | None = None,
        who: str,
    ) -> None:
        self.context, self._parameters, self._token_budget, self._who = context, Scope(parameters), token_budget, who
        self._projection = None if projection is None else SparseProjection(projection, context.seed)
        self._told: set[str] = set()

    def at(self, model: nn.Module) -> Comparison:
        """Look at the model as it is now.

        Raises:
            ConfigError: when its parameters are spread over ranks.
            ComponentError: when no parameter is left to measure.
        """
        measuring = Measuring(
            self.context, model, self._parameters, token_budget=self._token_budget, told=self._told, who=self._who
        )
        return Comparison(measuring, self._projection)


class Comparison:
    """Runs both passes on this rank's share and puts the results of all ranks together.

    Args:
        measuring: The gradients.
        projection: What they are projected with, or ``None``.
    """

    def __init__(self, measuring: Measuring, projection: SparseProjection | None) -> None:
        self._measuring, self._projection, self._context = measuring, projection, measuring.context
        self._validation = ValidationPass(measuring, projection)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The parameters whose gradients are compared, by name."""
        return self._measuring.coverage.parameters

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each part of what is compared; directions take 4 bytes x subtasks x their sum on every rank."""
        return self._validation.sizes

    def score(
        self,
        subtasks: Sequence[Subtask],
        rows: npt.ArrayLike,
        *,
        steps: AdamSteps | LinearAdam | None = None,
        key: Any = None,
        settings: Mapping[str, Any] | None = None,
        shard_seconds: float = SHARD_SECONDS,
    ) -> Cosines:
        """Both passes. Where the second falls back to one row at a time, the first is done again in that way too.

        Args:
            subtasks: What to compare with.
            rows: Rows of the pool, the same on every rank.
            steps: Compare by the steps that Adam would take for the rows; ``None`` by their gradients. Taken as
                linear, they are inner products with a row's gradient of length 1, and no cosines.
            key: As of ``context.score``: names the component's pass, and what is kept under it is replaced.
            settings: JSON values on which the cosines depend beside weights, rows, subtasks and steps.
            shard_seconds: How often finished cosines are written; 0 never.

        Raises:
            ComponentError: on every rank, when one fails, a subtask has no usable sample, or the model is trained with
                another loss.
        """
        measuring, context = self._measuring, self._context
        with rng_scope(devices=True):
            chosen = valid_rows(context, rows)
            measuring.check_objective(chosen)
            began, total = time.monotonic(), len(chosen) + sum(len(subtask.rows) for subtask in subtasks)
            kept = key is not None and bool(shard_seconds)
            goals = [_described(each) for each in subtasks] if kept else []
            with ScoringProgress(total, enabled=context.rank == 0, share=context.world_size) as progress:
                while True:
                    progress.done, progress.total = 0, total
                    linear = steps if isinstance(steps, LinearAdam) else None
                    facts = self._validation.run(subtasks, progress, linear)
                    validated = time.monotonic()
                    scores = ScoreSink(facts.directions) if linear is None else LinearScoreSink(facts.directions)
                    store = open_store(
                        context,
                        measuring.model,
                        chosen,
                        len(subtasks) + 1,
                        key,
                        settings={**(settings or {}), **self._depends()},
                        data=goals,
                        others=() if steps is None else steps.described(),
                        seconds=shard_seconds,
                    )
                    fed = self._stepped(self._validation.projected(scores), steps)
                    found = measuring.scores(chosen, fed, scores, progress, store)
                    if found is not None:
                        break
            if store is not None and context.rank == 0:
                store.drop_others()
        measuring.note_what_is_left_out()
        table, resumed = found
        cosines, targets, ended = table[:, :-1], table[:, -1], time.monotonic()
        broken = ~np.isfinite(cosines[chosen]).all(axis=1) & (targets[chosen] > 0)
        unique = len(np.unique(resumed))
        return Cosines(
            values=cosines,
            targets=targets,
            seconds=ended - began,
            rows_per_second=(len(chosen) - unique) / max(ended - validated, 1e-9),
            resumed=unique,
            non_finite=int(broken.sum()),
            size=measuring.coverage.size,
            excluded=measuring.coverage.excluded,
            one_by_one=measuring.engine.reason,
            validation=facts,
            validation_seconds=validated - began,
            preconditioned=steps is not None,
        )

    def aim(self, subtasks: Sequence[Subtask], linear: LinearAdam | None = None) -> Validation:
        """The validation pass alone, for who compares rows otherwise. All ranks call it.

        Raises:
            ComponentError: on every rank, when one fails, a subtask has no usable sample, or the model is trained with
                another loss.
        """
        total = sum(len(subtask.rows) for subtask in subtasks)
        with rng_scope(devices=True):
            self._measuring.check_objective(np.arange(len(self._context.dataset)))
            with ScoringProgress(total, enabled=self._context.rank == 0, share=self._context.world_size) as progress:
                found = self._validation.run(subtasks, progress, linear)
        self._measuring.note_what_is_left_out()
        return found

    def _depends(self) -> dict[str, Any]:
        """What cosines depend on beside weights, data and what the component says. Those of batches that were given up
        must not be taken up again.
        """
        width = None if self._projection is None else self._projection.width
        one_by_one, excluded = bool(self._measuring.engine.reason), list(self._measuring.coverage.excluded)
        return {
            "pass": "cosines",
            "seed": self._context.seed,
            "projection": width,
            "excluded": excluded,
            "one_by_one": one_by_one,
        }

    def _stepped(self, sink: GradientSink, steps: AdamSteps | LinearAdam | None) -> GradientSink:
        return steps.before(sink) if isinstance(steps, AdamSteps) else sink


def _described(subtask: Subtask) -> str:
    groups = subtask.described if isinstance(subtask, GroupedSubtask) else ""
    return f"{subtask.name} {contents(subtask.dataset, subtask.rows)} {groups}".rstrip()
