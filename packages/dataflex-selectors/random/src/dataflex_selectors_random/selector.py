"""The selector ``random``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataflex import RunContext, Selection, Selector
from dataflex.components.selector import random_rows
from dataflex_selectors_random.params import RandomParams

if TYPE_CHECKING:
    from torch import nn


class RandomSelector(Selector):
    """Draw the next stage's samples uniformly from the pool, anew at each boundary."""

    params: RandomParams
    context: RunContext

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Draw ``num_samples`` rows; a function of (seed, step) alone. The model is not used."""
        rng = self.context.rng(step_id)
        return Selection(random_rows(rng, len(self.dataset), num_samples, replacement=self.params.replacement))
