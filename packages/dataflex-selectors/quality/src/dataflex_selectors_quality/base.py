"""What the four selectors share: an order of preference, and taking rows of it over several boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, RunContext, Selection, Selector
from dataflex.math.rereading import per_pass, read_again
from dataflex_selectors_quality.taking import take

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

_FREE = "free"


@dataclass(frozen=True, eq=False)
class Preference:
    """Which rows a selector prefers at a boundary.

    Attributes:
        order: Rows that may be chosen, best first, none twice.
        scores: Score of every row, shape ``[pool]``, NaN for none.
        why: Why rows may not be chosen, in words with their numbers, for an error.
        metrics: For the decision.
    """

    order: Rows
    scores: Floats
    why: str
    metrics: Metrics = field(default_factory=dict)


class PreferringSelector(Selector):
    """Takes rows in an order of preference; a later boundary goes on where the last one stopped."""

    context: RunContext

    def __init__(self, params: Any, context: RunContext) -> None:
        super().__init__(params, context)
        self._free = np.ones(len(self.dataset), np.bool_)

    def preferred(self, model: nn.Module, step: int, count: int, free: npt.NDArray[np.bool_]) -> Preference:
        """Say which rows are preferred. Called on every rank; the same on all.

        Args:
            model: The model in training.
            step: The boundary.
            count: How many rows will be taken.
            free: Which rows no earlier boundary took.
        """
        raise NotImplementedError(f"{type(self).__name__} must define preferred()")

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Take the next rows of the order.

        Raises:
            ComponentError: when fewer rows may be chosen than a pass of the stage needs.
        """
        params, context = self.params, self.context
        needed = per_pass(num_samples, params.passes)
        free = np.ones_like(self._free) if params.repeat_rows else self._free
        found = self.preferred(model, step_id, needed, free)
        if len(found.order) < needed:
            raise ComponentError(
                f"only {len(found.order)} of {len(self.dataset)} rows can be chosen at step {step_id} and {needed} are "
                f"needed: {found.why}. Lower update_step or the batch size, or raise component_params.passes."
            )
        taken = take(found.order, free, needed)
        self._free = taken.free
        chosen = context.rng(step_id).permutation(taken.rows)  # ranked, every part of the stage would see another mix
        finite = found.scores[np.isfinite(found.scores)]
        metrics: Metrics = {
            **found.metrics,
            "scored": float(len(finite)),
            "without_score": float(len(found.scores) - len(finite)),
            "free": float(free[found.order].sum()),
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, metrics, found.scores)

    def state_dict(self) -> dict[str, Any]:
        """Which rows may be chosen next, as bits."""
        return {_FREE: np.packbits(self._free)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        bits = np.asarray(state[_FREE], np.uint8)
        self._free = np.unpackbits(bits, count=len(self.dataset)).astype(np.bool_)


def ranked(scores: Floats) -> Rows:
    """Rows with a score, the highest first; of equal ones the lower row."""
    rows = np.flatnonzero(np.isfinite(scores))
    return rows[np.argsort(-scores[rows], kind="stable")]
