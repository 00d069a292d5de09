"""Scoring few rows exactly: what a selector is given by :meth:`dataflex.RunContext.screened`.

    candidates --screen's scores--> survivors   chosen among, scored exactly
               --drawn at random--> agreement   scored exactly too, to see how far both scores agree

Torch-free at import time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dataflex.math.ranks import spearman

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("dataflex")

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

LEAST_ROWS = 16
"""Rows with both scores, below which their agreement is not reported."""

LEAST_AGREEMENT = 0.3
"""Below it, a warning: the screen puts rows in another order than the score it stands in for."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """What screen and exact score are compared on.

    Attributes:
        rows: Candidates drawn at random, ascending.
        scores: Of the screen, by row of the pool.
        screen: Its title, for messages.
        log: Whether this rank speaks.
    """

    rows: Rows
    scores: Floats
    screen: str
    log: bool

    def metrics(self, exact: Floats) -> Metrics:
        """``screen_agreement``, Spearman's correlation over the rows with both scores, unless there are fewer than
        :data:`LEAST_ROWS` or one score is constant.
        """
        ours, theirs = exact[self.rows], self.scores[self.rows]
        both = np.isfinite(ours) & np.isfinite(theirs)
        found = spearman(theirs[both], ours[both]) if int(both.sum()) >= LEAST_ROWS else None
        if found is None:
            return {}
        if found < LEAST_AGREEMENT and self.log:
            logger.warning(
                "%s: its scores and the exact ones agree little: Spearman's correlation is %.2f on %d rows drawn at "
                "random. Rows that the exact score would choose are screened out; take another screen, or raise "
                "survivors.",
                self.screen,
                found,
                int(both.sum()),
            )
        return {"screen_agreement": found}


@dataclass(frozen=True, eq=False)
class Screened:
    """Which rows to score, and among which to choose.

    Attributes:
        rows: To be scored exactly, ascending.
        survivors: Those of them that may be chosen, ascending; all without a screen.
        recorded: Numbers for the decision.
        agreement: What both scores are compared on, if anything.
    """

    rows: Rows
    survivors: Rows
    recorded: Metrics = field(default_factory=dict)
    agreement: Agreement | None = None

    def metrics(self, exact: Floats) -> Metrics:
        """Numbers for the decision.

        Args:
            exact: The exact scores by row of the pool, NaN for none; shape ``[pool]``.
        """
        compared = {} if self.agreement is None else self.agreement.metrics(exact)
        return {**self.recorded, **compared}


class Screen(Protocol):
    """Screens the candidates of a selector's boundaries. Core makes it from the selector's parameter ``screen``."""

    def look(
        self, model: nn.Module, candidates: Rows, *, step: int, num_samples: int, facts: Mapping[str, Any]
    ) -> Screened:
        """See :meth:`dataflex.RunContext.screened`."""
