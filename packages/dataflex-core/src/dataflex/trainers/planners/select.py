"""The Select Trainer's planner: the rows a selector chose are the plan of a stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.selector import Selection, valid_scores
from dataflex.config.plan import Part
from dataflex.errors import ComponentError
from dataflex.trainers.planners.planner import ComponentPlanner
from dataflex.trainers.planners.selection_cost import SelectionCost, frame_of
from dataflex.trainers.recording.outcome import Outcome
from dataflex.trainers.slots import Filled, Opening


def fill(opening: Opening, part: Part) -> Filled:
    """Let a selector order the rows."""
    context, host, params = opening.context, opening.host, part.bound.values
    frame = frame_of(opening.schedule, context.global_batch, host.model, params)
    asking = opening.parts.open(part, context, frame)
    planner = SelectPlanner(host, opening.session, opening.schedule, context, opening.recorder, asking)
    planner.cost = SelectionCost(asking, opening.parts.screen, frame, len(host.train_dataset))
    return Filled(planner)


class SelectPlanner(ComponentPlanner):
    """Asks a selector for the samples of each stage: ``warmup`` for the first, ``select`` for every other.

    Args:
        As of :class:`ComponentPlanner`.

    Attributes:
        cost: Tells at the first boundary what the selection costs; ``None`` where nothing is trained.
    """

    cost: SelectionCost | None = None

    def decide(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the selector and check its answer."""
        answer = self._warmup(num_samples) if stage == 0 else self._select(stage, step, num_samples)
        selection = answer if isinstance(answer, Selection) else Selection(answer)
        pool_size = len(self.host.train_dataset)
        rows = valid_rows(selection.rows, num_samples, pool_size)
        counts = {"pool": pool_size, "selected": len(rows), "distinct": len(np.unique(rows))}
        scores = None if selection.scores is None else valid_scores(selection.scores, pool_size)
        metrics = {**counts, **selection.metrics}
        if stage == 1 and self.cost is not None:
            metrics |= self.cost.metrics(selection.metrics, log=self.host.is_world_process_zero())
        by_target = {str(name): valid_scores(each, pool_size) for name, each in selection.target_scores.items()}
        return Outcome(rows=rows, result=rows, metrics=metrics, scores=scores, target_scores=by_target)

    def describe(self, outcome: Outcome) -> str:
        """How much was chosen of how much."""
        counts = outcome.metrics
        name = self.asking.name
        return f"{name} chose {counts['selected']} samples ({counts['distinct']} distinct) of {counts['pool']}"

    def _warmup(self, num_samples: int) -> Any:
        return self.ask("warmup", num_samples=num_samples, replacement=False)

    def _select(self, stage: int, step: int, num_samples: int) -> Any:
        return self.ask(
            "select", model=self.model(), step_id=step, num_samples=num_samples, **self.runtime_arguments(stage)
        )


def valid_rows(answer: Any, num_samples: int, pool_size: int) -> npt.NDArray[np.int64]:
    """Check a selector's answer before it is used.

    Args:
        answer: Any sequence or array of row indices.
        num_samples: How many there must be.
        pool_size: Rows of the pool.

    Returns:
        The rows, shape ``[num_samples]``.

    Raises:
        ComponentError: says which of count, type or range is wrong, with the first offending value.
    """
    if not hasattr(answer, "__len__") or isinstance(answer, (set, dict, str)):
        raise ComponentError(f"it returned {type(answer).__name__}, not a list of row indices")
    try:
        values = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
    except (TypeError, ValueError) as error:
        raise ComponentError(f"it returned {type(answer).__name__}, not a list of row indices ({error})") from error
    if values.ndim != 1 or len(values) != num_samples:
        raise ComponentError(f"it returned shape {list(values.shape)} where {num_samples} row indices were asked for")
    if not np.issubdtype(values.dtype, np.integer):
        if not np.issubdtype(values.dtype, np.floating):
            raise ComponentError(f"it returned {values.dtype} values; row indices are integers")
        bad = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
        if len(bad):
            raise ComponentError(f"it returned {values[bad[0]]} at position {bad[0]}; row indices are integers")
    outside = np.flatnonzero((values < 0) | (values >= pool_size))
    if len(outside):
        raise ComponentError(
            f"it returned row {values[outside[0]]} at position {outside[0]}; the pool has rows 0 to {pool_size - 1}"
        )
    return values.astype(np.int64)
