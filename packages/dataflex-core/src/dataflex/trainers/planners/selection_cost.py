"""What a selector's scores cost a run, in its own steps: said at the first boundary, and recorded there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dataflex.components.asking import Asking
from dataflex.components.screen import ComponentScreen, Frame
from dataflex.math.selection_cost import Budget, RowCost, screens_of
from dataflex.schedule import Schedule
from dataflex.scoring.embedding_cost import numbers_of

logger = logging.getLogger("dataflex")

_WHOLE_MODEL = 2.0  # backward over forward where all weights are trained
_ADAPTERS = 1.0


def frame_of(schedule: Schedule, global_batch: int, model: Any, params: Mapping[str, Any]) -> Frame:
    """The run that a selection has to pay for itself in.

    Args:
        schedule: The stages of the run.
        global_batch: Samples of one optimizer step over all ranks.
        model: The model in training.
        params: The selector's parameters.
    """
    budget = Budget(
        steps=schedule.total, boundaries=max(len(schedule.boundaries), 1), batch=global_batch, beta=beta_of(model)
    )
    rows = 1 if params.get("replacement") else schedule.longest_update * global_batch
    return Frame(
        budget=budget, stage_rows=rows, passes=params.get("passes") or 1, has_passes="passes" in params, model=model
    )


def beta_of(model: Any) -> float:
    """A backward pass in forward passes: 2 where most weights are trained, 1 where few are, as under adapters."""
    sizes = [(numbers_of(parameter), parameter.requires_grad) for parameter in model.parameters()]
    trained = sum(size for size, trains in sizes if trains)
    return _WHOLE_MODEL if 2 * trained > sum(size for size, _ in sizes) else _ADAPTERS


class SelectionCost:
    """Works out the cost once rows have been scored.

    Args:
        asking: The selector.
        screen: Its screen, if it has one.
        frame: The run.
        pool_size: Rows of the pool.
    """

    def __init__(self, asking: Asking, screen: ComponentScreen | None, frame: Frame, pool_size: int) -> None:
        self._asking, self._screen, self._frame, self._pool_size = asking, screen, frame, pool_size

    def metrics(self, recorded: Mapping[str, Any], *, log: bool) -> dict[str, float]:
        """Numbers for the decision at the first boundary; none for a selector that does not say what its scores cost.

        ``selection_steps`` is the cost of the whole run's selection, ``selection_worth`` what a step on the chosen
        rows has to be worth, in random steps, for it to pay, and ``selection_steps_allowed`` what it may cost where
        ``screen.worth`` says what a step is worth.

        Args:
            recorded: What the selector reported of the boundary; ``scored`` is used.
            log: Whether this rank speaks.
        """
        exact, scored = self._asking.call("scoring_cost", model=self._frame.model), recorded.get("scored")
        if exact is None or (exact.rows is None and not isinstance(scored, (int, float))):
            return {}
        scored = float(scored) if isinstance(scored, (int, float)) else 0.0
        budget, screen = self._frame.budget, self._screen
        if screen is None:
            cost = budget.cost(scored, exact)
        else:
            screens = screens_of(budget.boundaries, screen.settings.every)
            cost = budget.cost(scored, exact, screened=self._pool_size, screens=screens, screen=screen.cost)
        worth = None if screen is None else screen.settings.worth
        numbers = {"selection_steps": cost, "selection_worth": 1 + cost / budget.steps}
        if worth is not None:
            numbers["selection_steps_allowed"] = budget.allowed(worth)
        if log:
            self._tell(cost, worth, exact, scored)
        return numbers

    def _tell(self, cost: float, worth: float | None, exact: RowCost, scored: float) -> None:
        budget, name = self._frame.budget, self._asking.name
        rows, times = exact.rows, exact.times
        logger.info(
            "%s: the selection of this run takes about as long as %.3g of its %d steps (%s). It pays if a step on the "
            "chosen rows is worth more than %.2f random ones.",
            *(name, cost, budget.steps, _passes(int(scored) if rows is None else rows, times, budget.boundaries)),
            1 + cost / budget.steps,
        )
        if worth is None:
            return
        allowed = budget.allowed(worth)
        say = logger.info if cost < allowed else logger.warning
        say(
            "%s: worth %g random steps each, the %d steps of this run may cost %.0f steps of selection; it costs %.0f.",
            *(name, worth, budget.steps, allowed, cost),
        )


def _passes(rows: int, times: int | None, boundaries: int) -> str:
    if times is None:
        return f"{boundaries} boundaries, {rows} rows scored at each"
    return f"{rows} rows passed over {'once' if times == 1 else f'{times} times'}"
