"""The bench for orderers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.ordering import permutation_of
from dataflex.rng import stream
from dataflex.testing.bench import Bench
from dataflex.testing.check import NotApplicable

ROWS = 24
_EVERY_NTH_ROW = 3  # of a pool: places of a queue are not its rows
_STEPS_A_PASS = 10


class OrdererBench(Bench):
    """Asks for the order of a queue of :data:`ROWS` rows in each of several passes; a pattern, for its ranks."""

    def ask(
        self,
        component: Any,
        step: int,
        rows: npt.NDArray[np.int64] | None = None,
        scores: npt.NDArray[np.float64] | None = None,
    ) -> Any:
        """Ask for an order, or for as many ranks as there are rows."""
        own = queue(ROWS) if rows is None else rows
        known = ordinary_scores(len(own)) if scores is None else scores
        door, rng = self.door(component), stream(self.run_seed(component), 0, "order", step // _STEPS_A_PASS)
        if self.is_pattern(component):
            return door.call("ranks", n=len(own), rng=rng)
        return door.call(
            "order",
            rows=own.copy(),
            scores=known.copy(),
            rng=rng,
            model=self.trainee.model,
            step_id=step,
            domain=None,
        )

    def is_pattern(self, component: Any) -> bool:
        """Whether it gives ranks, and never sees rows or scores."""
        return self.door(component).defines("ranks")

    def run_seed(self, component: Any) -> int:
        """The seed of the run that it was built for."""
        return self._seeds.get(id(component), 0)

    def build(self, **given: Any) -> Any:
        """Construct the component, and remember the seed: an orderer is handed what it draws from."""
        component = super().build(**given)
        self._seeds[id(component)] = given.get("seed", 0)
        self._built.append(component)  # so that no other has its id
        return component

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seeds: dict[int, int] = {}
        self._built: list[Any] = []

    def flat(self, answer: Any) -> Any:
        """The rows or ranks, in order."""
        return np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)

    def validate(self, answer: Any, rows: npt.NDArray[np.int64] | None = None, *, pattern: bool | None = None) -> None:
        """Each row once, or each rank, as the trainers check it."""
        own = queue(ROWS) if rows is None else rows
        given = self.flat(answer)
        if pattern is None:
            pattern = len(given) == len(own) and set(given.tolist()) != set(own.tolist())
        permutation_of(given, np.arange(len(own)) if pattern else own, "it")

    def needs_scores(self, component: Any) -> None:
        """Make sure that it is shown scores.

        Raises:
            NotApplicable: for a pattern.
        """
        if self.is_pattern(component):
            raise NotApplicable("a pattern never sees a score")


def queue(count: int) -> npt.NDArray[np.int64]:
    """Rows of a queue."""
    return np.arange(count, dtype=np.int64) * _EVERY_NTH_ROW


def ordinary_scores(count: int) -> npt.NDArray[np.float64]:
    """Scores without ties, in no order."""
    return np.random.default_rng(7).permutation(count) / 8 - 1
