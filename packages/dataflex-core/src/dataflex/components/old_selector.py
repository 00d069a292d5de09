"""Methods that classes written for PyPI dataflex 1.1.0 call on their base class ``Selector``.

Nothing of DataFlex calls them: a class that was written for 1.1.0 runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

ScoreSource = Callable[[Sequence[int]], Sequence[float]]


class OldSelectorMethods:
    """Candidates and scores as in 1.1.0: a subset of the pool, and scores that may come from elsewhere.

    The state lies in class attributes until it is set, so that a class need not call ``super().__init__``.
    """

    dataset: Any
    _candidate_pool: list[int] | None = None
    _score_source: ScoreSource | None = None

    def set_candidate_pool(self, indices: Sequence[int] | None) -> None:
        """Restrict scoring and choosing to some rows of the pool.

        Args:
            indices: The rows; ``None`` for all.
        """
        wanted = None if indices is None else [int(index) for index in indices]
        changed = wanted != self._candidate_pool
        self._candidate_pool = wanted
        if changed:
            self._on_candidate_pool_changed()

    def get_candidate_pool(self) -> list[int] | None:
        """The rows it is restricted to, as a copy; ``None`` for all."""
        return None if self._candidate_pool is None else list(self._candidate_pool)

    def _on_candidate_pool_changed(self) -> None:
        """Forget what was derived from the rows before; a class with such state overrides it."""

    def candidate_positions(self) -> list[int]:
        """The rows to score and to choose from."""
        return list(range(len(self.dataset))) if self._candidate_pool is None else list(self._candidate_pool)

    def set_score_source(self, fn: ScoreSource | None) -> None:
        """Take the scores of rows from ``fn(positions)``, one for each in the same order; ``None`` to compute them."""
        self._score_source = fn

    def has_score_source(self) -> bool:
        """Whether the scores come from elsewhere."""
        return self._score_source is not None

    def _scores_for(self, positions: Sequence[int], model: nn.Module, step_id: int) -> list[float]:
        """One score a row: from the source if there is one, else from the class's own ``_compute_losses``.

        Raises:
            ValueError: when the source gives another number of scores.
        """
        rows = list(positions)
        if not rows:
            return []
        if self._score_source is None:
            return list(self._compute_losses(rows, model, step_id))
        scores = list(self._score_source(rows))
        if len(scores) != len(rows):
            raise ValueError(f"the score source returned {len(scores)} scores for {len(rows)} rows")
        return scores

    def _compute_losses(self, positions: Sequence[int], model: nn.Module, step_id: int) -> Sequence[float]:
        """Score rows; a class that calls :meth:`_scores_for` defines it."""
        raise NotImplementedError(f"{type(self).__name__} must define _compute_losses(), or be given a score source")
