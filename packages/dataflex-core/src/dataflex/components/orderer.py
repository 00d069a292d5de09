"""Orderers put the rows of a pass in an order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext, logger
from dataflex.components.stateful import Stateful
from dataflex.config.order_params import OrdererParams

__all__ = ["Orderer", "OrdererParams", "Pattern", "logger"]


class Orderer(Stateful):
    """Base class of orderers.

    The framework finds the scores, says which rows a pass has, and checks that each comes back once. An order must
    depend on the scores through their order alone: any increasing function of them gives the same.

    Attributes:
        params: Its parameters; ``None`` for a class that has a constructor of its own.
        context: The run, likewise.
    """

    params: Any = None
    context: RunContext | None = None

    def __init__(self, params: Any = None, context: RunContext | None = None) -> None:
        self.params, self.context = params, context

    def order(
        self, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], rng: np.random.Generator, **kwargs: Any
    ) -> Sequence[int] | npt.NDArray[np.int64]:
        """Put rows in the order to train on. Called on every rank; all ranks must return the same.

        Called when a pass begins, and with ``by: loss`` at each boundary after it, for the rows that are left.

        Args:
            rows: Row numbers of the pool, each once, in the order of the queue; shape ``[n]``, n may be 0.
            scores: Their scores, shape ``[n]``; NaN where there is none. ``direction`` is the class's to follow.
            rng: To draw from: the same at every boundary of a pass and on resume, another for each pass.
            kwargs: On demand, by name: ``model``, ``step_id`` (optimizer steps done) and ``domain`` (the name of the
                domain that the rows are of, ``None`` where there is only one queue). A class that does not take
                ``kwargs`` gets only those it names.

        Returns:
            The same rows in a new order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define order()")


class Pattern(Orderer):
    """An orderer that is a permutation of ranks: it never sees a score.

    The framework ranks the rows by score, gives place p the row of rank ``ranks(n, rng)[p]``, and goes on with the same
    permutation over boundaries and resumes.
    """

    def ranks(self, n: int, rng: np.random.Generator) -> Sequence[int] | npt.NDArray[np.int64]:
        """Say which rank each place gets.

        Args:
            n: Places, 0 and 1 included.
            rng: To draw from, if at all.

        Returns:
            Each of 0 ... n - 1 once; shape ``[n]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define ranks()")
