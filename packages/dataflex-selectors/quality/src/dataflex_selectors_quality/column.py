"""The selector ``column``: rows by a number that the data already has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dataflex import RunContext
from dataflex.data.given_scores import given_numbers
from dataflex_selectors_quality.base import Floats, Preference, PreferringSelector, ranked
from dataflex_selectors_quality.params import ColumnParams

if TYPE_CHECKING:
    from torch import nn


class ColumnSelector(PreferringSelector):
    """Take the rows of the highest numbers, or of the lowest."""

    params: ColumnParams

    def __init__(self, params: ColumnParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._numbers: Floats | None = None

    def preferred(self, model: nn.Module, step: int, count: int, free: npt.NDArray[np.bool_]) -> Preference:
        """In the order of the numbers; the scores are the numbers, with their sign turned where low ones come first."""
        if self._numbers is None:
            self._numbers = given_numbers(self.params.by, self.context.dataset, self.context.columns)
        scores = self._numbers if self.params.direction == "descending" else -self._numbers
        order = ranked(scores)
        return Preference(order, scores, f"{len(scores) - len(order)} have no number in {self.params.by}")
