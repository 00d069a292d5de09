"""What labels are inner products with: the mean unit gradient of some rows of each target.

Shapes: S targets, n numbers of one parameter.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dataflex import ComponentError, RunContext
from dataflex.components.labels import LabelDirections
from dataflex.components.passes import Subtask
from dataflex.scoring.subtasks import subtasks_of
from dataflex.scoring.validation import ValidationRows
from dataflex_selectors_influence.params import InfluenceParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.gradients.cosines import CosineScorer

logger = logging.getLogger("dataflex")

_VECTORS = "direction/"


class Aim:
    """The direction, made once as training begins or anew every so many steps.

    Args:
        params: ``max_validation``, ``refresh``, ``preconditioner``, ``exact_gradients``, ``targets`` and
            ``token_budget`` are used.
        context: The run.

    Attributes:
        directions: What training compares rows with; ``None`` before it has been made.
        number: How many have been made.
        seconds: What making them took since they were last reported.
    """

    def __init__(self, params: InfluenceParams, context: RunContext) -> None:
        self._params, self._context = params, context
        self._scorer: CosineScorer | None = None
        self._made_at = -1
        self._validation = ValidationRows(context, params.max_validation)
        self.directions: LabelDirections | None = None
        self.number = 0

    def begin(self, model: nn.Module) -> None:
        """Make it before the first step, where that is possible: with ``linear`` there are no moments yet."""
        if self._params.preconditioner == "sgd":
            self._make(model, 0)

    def at(self, model: nn.Module, step: int) -> LabelDirections | None:
        """The direction for the coming step. Called on every rank."""
        refresh = self._params.refresh
        if refresh is not None and step and step % refresh == 0 and step != self._made_at:
            self._make(model, step)
        return self.directions

    def times(self, steps: int | None) -> int:
        """How often a run of so many steps makes it: in ``begin`` but for ``linear``, then every ``refresh`` steps."""
        refresh, first = self._params.refresh, int(self._params.preconditioner == "sgd")
        return first if refresh is None or steps is None else first + max(steps - 1, 0) // refresh

    def targets(self) -> list[Subtask]:
        """The eval sets that are aimed at, each with the rows that were drawn of it."""
        found = subtasks_of(self._context.eval_datasets, None, self._params.targets, who="influence")
        return self._validation.of(found)

    def _make(self, model: nn.Module, step: int) -> None:
        from dataflex.gradients.cosines import CosineScorer
        from dataflex.gradients.coverage import Scope, cover
        from dataflex.gradients.linear_adam import linear_adam

        params, context = self._params, self._context
        try:
            cover(model, Scope.LINEAR)
        except ComponentError as error:
            raise ComponentError(
                "influence reads the gradients of linear layers, and this model trains none that can be told apart by "
                "row (a head tied to the embedding, embeddings and norms cannot). Train adapters or linear layers, or "
                "take the selector less, which measures one row at a time."
            ) from error
        if self._scorer is None:
            self._scorer = CosineScorer(
                context, parameters="linear", token_budget=params.token_budget, who="the selector influence"
            )
        comparison, targets = self._scorer.at(model), self.targets()
        linear = linear_adam(context, comparison.parameters) if params.preconditioner == "linear" else None
        made = comparison.aim(targets, linear)
        self.directions = LabelDirections(made.directions, params.exact_gradients)
        self.number, self._made_at = self.number + 1, step
        if context.rank == 0:
            aims = ", ".join(f"{target.name} ({len(target.rows)} rows)" for target in targets)
            logger.info("influence at step %d: rows are compared with %s from here on.", step, aims)
            if made.lost or made.flat:
                logger.warning(
                    "of those rows, %d have a gradient that is not finite and are left out, and %d have one that is "
                    "zero and count as no likeness at all.",
                    made.lost,
                    made.flat,
                )

    def state_dict(self) -> dict[str, Any]:
        """Tensors by parameter, and what they were made of."""
        vectors = {} if self.directions is None else self.directions.vectors
        return {
            **self._validation.state_dict(),
            "direction_number": self.number,
            "direction_step": self._made_at,
            **{f"{_VECTORS}{name}": value for name, value in vectors.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        vectors = {name.removeprefix(_VECTORS): value for name, value in state.items() if name.startswith(_VECTORS)}
        self._validation.load_state_dict(state)
        self.number, self._made_at = int(state["direction_number"]), int(state["direction_step"])
        self.directions = LabelDirections(vectors, self._params.exact_gradients) if vectors else None
