"""The selector ``random``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataflex import RunContext, Selection, Selector
from dataflex.components.selector import random_rows
from dataflex.math.rereading import per_pass, read_again
from dataflex_selectors_random.params import RandomParams

if TYPE_CHECKING:
    from torch import nn


class RandomSelector(Selector):
    """Draw the next stage's samples uniformly from the pool, anew at each boundary."""

    params: RandomParams
    context: RunContext

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Draw ``num_samples`` rows; a function of (seed, step) alone. The model is not used.

        Where the pool holds fewer rows than a pass would draw, each pass reads all of them.
        """
        context, pool_size = self.context, len(self.dataset)
        drawn, passes = per_pass(num_samples, self.params.passes), self.params.passes
        if drawn > pool_size and not self.params.replacement:
            drawn, passes = num_samples, 1
        rows = random_rows(context.rng(step_id), pool_size, drawn, replacement=self.params.replacement)
        return Selection(read_again(rows, num_samples, passes, lambda number: context.rng(step_id, "pass", number)))
