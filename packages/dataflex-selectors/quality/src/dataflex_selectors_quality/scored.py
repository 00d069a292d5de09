"""What ``ifd`` and ``perplexity`` share: numbers that a model gives of each row, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dataflex.math.selection_cost import RowCost
from dataflex_selectors_quality.base import Floats, PreferringSelector
from dataflex_selectors_quality.params import ScoredParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex import RunContext
    from dataflex.scoring.row_scores import RowScores
    from dataflex.scoring.score_source import ScoreSource


class ScoredSelector(PreferringSelector):
    """Takes rows by what a model says of them, which is found once and kept.

    Attributes:
        forward: Forward passes of a row.
    """

    params: ScoredParams
    forward: float = 1.0

    def __init__(self, params: ScoredParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: ScoreSource | None = None
        self._of_source: Mapping[str, Any] = {}

    def measure(self, model: nn.Module, context: RunContext) -> Mapping[str, Floats]:
        """Ask a model, on every rank.

        Args:
            model: Who scores.
            context: The run as that model sees it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define measure()")

    def spec(self) -> Mapping[str, Any]:
        """What :meth:`measure` computes, JSON values."""
        raise NotImplementedError(f"{type(self).__name__} must define spec()")

    def begin(self, model: nn.Module) -> None:
        """With ``score_model: initial``, score the pool with the model as training begins."""
        self.source().begin(model)

    def measured(self, model: nn.Module) -> tuple[RowScores, dict[str, float]]:
        """The numbers, and what making them took."""
        return self.source().at(model)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A pass over the pool, once."""
        return self.source().cost(model)

    def source(self) -> ScoreSource:
        """Where the numbers come from."""
        if self._source is None:
            from dataflex.scoring.score_source import ScoreSource

            params = self.params
            self._source = ScoreSource(
                self.context,
                self.measure,
                self.spec(),
                model=params.score_model,
                folder=params.scores_dir,
                forward=self.forward,
            )
            self._source.load_state_dict(self._of_source)
        return self._source

    def state_dict(self) -> dict[str, Any]:
        """Which rows may be chosen next, and which scores this run uses."""
        of_source = self._of_source if self._source is None else self._source.state_dict()
        return {**super().state_dict(), **of_source}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        self._of_source = {name: value for name, value in state.items() if name.startswith("scores_")}
        if self._source is not None:
            self._source.load_state_dict(self._of_source)
