"""Weights of chosen rows, one for each place of a queue: a row that is chosen twice may weigh differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.mixing.packed import packed, unpacked

Whole = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class QueueWeights:
    """Knows what each place of the queues weighs, and notes which places are taken.

    Args:
        domains: How many queues there are.
    """

    def __init__(self, domains: int) -> None:
        self._weights_D: list[Floats | None] = [None] * domains
        self._taken_D: list[list[Floats]] = [[] for _ in range(domains)]

    def fill(self, domain: int, weights: Floats | None) -> None:
        """Take the weights of a queue that was filled; ``None`` where its rows have none."""
        self._weights_D[domain] = weights

    def begin(self) -> None:
        """Forget what was taken: a plan is about to be drawn."""
        self._taken_D = [[] for _ in self._weights_D]

    def take(self, domain: int, places: Whole) -> None:
        """Note which places of a queue were read, in this order."""
        if not self._weighs:
            return
        weights = self._weights_D[domain]
        self._taken_D[domain].append(np.ones(len(places)) if weights is None else weights[places])

    def of(self, domain_of_rows: Whole) -> Floats | None:
        """Weights of the rows drawn since :meth:`begin`.

        Args:
            domain_of_rows: The domain of each, in the order drawn.

        Returns:
            One for each, 1 where the row was given none; ``None`` if no queue has weights.
        """
        if not self._weighs:
            return None
        drawn = np.ones(len(domain_of_rows))
        for domain, taken in enumerate(self._taken_D):
            drawn[domain_of_rows == domain] = np.concatenate([*taken, np.zeros(0)])
        return drawn

    @property
    def _weighs(self) -> bool:
        return any(weights is not None for weights in self._weights_D)

    def state_dict(self) -> list[str | None]:
        """The weights of each queue, as JSON values."""
        return [None if weights is None else packed(weights) for weights in self._weights_D]

    def load_state_dict(self, state: Sequence[Any]) -> None:
        """Take them back."""
        self._weights_D = [None if text is None else unpacked(text) for text in state]
