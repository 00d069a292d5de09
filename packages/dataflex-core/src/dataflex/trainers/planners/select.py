"""The Select Trainer's planner: the rows a selector chose are the plan of a stage."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.components.selector import Selection, valid_scores
from dataflex.config.parts import Part
from dataflex.config.screen import FoundScreen
from dataflex.errors import ComponentError
from dataflex.rng import key_seed, rng_scope
from dataflex.scoring.quiet import quiet
from dataflex.spec import Need
from dataflex.trainers.clock import DECISIONS, Clock
from dataflex.trainers.losses.place_weights import refuse_other_loss, valid_weights
from dataflex.trainers.losses.row_seam import RowTelling, Told
from dataflex.trainers.losses.shaper import LossShaper
from dataflex.trainers.losses.training_labels import TrainingLabels
from dataflex.trainers.planners.planner import ComponentPlanner
from dataflex.trainers.planners.selection_cost import SelectionCost, frame_of
from dataflex.trainers.recording.outcome import Outcome
from dataflex.trainers.slots import Around, Filled, Opening


def fill(opening: Opening, part: Part) -> Filled:
    """Let a selector order the rows."""
    context, host, recorder = opening.context, opening.host, opening.recorder
    frame = frame_of(opening.schedule, context.global_batch, host.model, part.bound.values)
    asking = opening.parts.open(part, context, frame)
    planner = SelectPlanner(host, opening.session, opening.schedule, context, recorder, asking)
    screen = opening.parts.screen
    planner.cost = SelectionCost(asking, screen, frame, len(host.train_dataset))
    around = telling(opening, part, asking)
    if screen is not None and part.screen is not None:
        planner.screen = screen.asking
        around = _both(telling(opening, part.screen, screen.asking, key="untold_rows_of_screen"), around)
    return Filled(planner, around=around)


def _both(inner: Around | None, outer: Around | None) -> Around | None:
    if inner is None or outer is None:
        return inner or outer
    first, second = inner, outer
    return lambda shaper: second(first(shaper))


def telling(opening: Opening, part: Part | FoundScreen, asking: Told, *, key: str = "untold_rows") -> Around | None:
    """What tells a selector of the rows of each step; ``None`` for one that does not hear of them."""
    host, clock = opening.host, opening.recorder.clock
    if not asking.defines("on_rows"):
        return None
    sees_losses = Need.SAMPLE_LOSSES in part.entry.spec.needs

    def around(inner: LossShaper) -> LossShaper:
        def rows_of(step: int) -> npt.NDArray[np.int64]:
            rows: npt.NDArray[np.int64] = host.running.rows_of(step)
            return rows

        labels = None
        if isinstance(asking, Asking) and asking.defines("directions"):
            labels = TrainingLabels(host, asking, clock, opening.context.seed)
        return RowTelling(inner, host, asking, rows_of, clock, sees_losses=sees_losses, labels=labels, key=key)

    return around


def show_model(asking: Asking, model: Any, seed: int, clock: Clock | None) -> None:
    """Show a selector the model as training begins. Called on every rank.

    Raises:
        ComponentError: on every rank, when it fails on one.
    """
    if not asking.defines("begin"):
        return
    counting = contextlib.nullcontext() if clock is None else clock.spending(DECISIONS)
    own_draws = rng_scope(key_seed(seed, "begin"), devices=True)
    with counting, asking.agreed("the start"), own_draws, quiet(model):
        asking.call("begin", model=model)


class SelectPlanner(ComponentPlanner):
    """Asks a selector for the samples of each stage: ``warmup`` for the first, ``select`` for every other.

    Args:
        As of :class:`ComponentPlanner`.

    Attributes:
        cost: Tells at the first boundary what the selection costs; ``None`` where nothing is trained.
        screen: The selector's screen, if it has one.
    """

    cost: SelectionCost | None = None
    screen: Asking | None = None
    weighs_places = True
    _begun = False

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Make the plan of a stage; the selector of a new run sees the model first.

        Raises:
            ComponentError: as :meth:`ComponentPlanner.plan`, and when ``begin`` fails on a rank.
        """
        if step == 0:
            self.begin()
        return super().plan(stage, step, num_samples)

    def begin(self) -> None:
        """Show the selector, and its screen before it, the model as training begins, once. Called on every rank.

        Raises:
            ComponentError: on every rank, when it fails on one.
        """
        if self._begun:
            return
        self._begun = True
        clock = None if self._recorder is None else self._recorder.clock
        for each in (self.screen, self.asking):
            if each is not None:
                show_model(each, self.model(), self.context.seed, clock)

    def decide(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the selector and check its answer."""
        answer = self._warmup(num_samples) if stage == 0 else self._select(stage, step, num_samples)
        selection = answer if isinstance(answer, Selection) else Selection(answer)
        pool_size = len(self.host.train_dataset)
        rows = valid_rows(selection.rows, num_samples, pool_size)
        counts = {"pool": pool_size, "selected": len(rows), "distinct": len(np.unique(rows))}
        scores = None if selection.scores is None else valid_scores(selection.scores, pool_size)
        weights = self._weights(selection, num_samples)
        metrics = {**counts, **selection.metrics}
        if stage == 1 and self.cost is not None:
            metrics |= self.cost.metrics(selection.metrics, log=self.host.is_world_process_zero())
        by_target = {str(name): valid_scores(each, pool_size) for name, each in selection.target_scores.items()}
        return Outcome(rows=rows, result=rows, metrics=metrics, scores=scores, weights=weights, target_scores=by_target)

    def _weights(self, selection: Selection, num_samples: int) -> npt.NDArray[np.float64] | None:
        if selection.weights is None:
            return None
        refuse_other_loss(self.host)
        return valid_weights(selection.weights, num_samples)

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
