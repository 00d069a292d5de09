"""A selector with an instance for each domain: each is told of the rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking

Rows = npt.NDArray[np.int64]


class EachDomain:
    """Tells each instance of a selector of the rows of its own domain, counted from its first row on.

    Args:
        askings: The instances.
        starts: First row of each domain in the pool, and the end of the last.
    """

    def __init__(self, askings: Sequence[Asking], starts: Rows) -> None:
        self._askings, self._starts = askings, starts

    def defines(self, method: str) -> bool:
        """Whether the class has a method of its own."""
        return self._askings[0].defines(method)

    def tell(self, method: str, step: int, told: Mapping[str, Any], untold: Callable[[], None]) -> None:
        """Tell those with rows in the step. If one fails, the checkpoint has all as they were before it."""
        rows = np.asarray(told["rows"], np.int64)
        done: list[tuple[Asking, dict[str, Any] | None]] = []

        def take_back() -> None:
            for asking, state in done:
                if state is not None:
                    asking.hold(state)
            untold()

        for domain, asking in enumerate(self._askings):
            first, end = int(self._starts[domain]), int(self._starts[domain + 1])
            mine = (rows >= first) & (rows < end)
            if not mine.any():
                continue
            own = {name: value[mine] if isinstance(value, np.ndarray) else value for name, value in told.items()}
            before = asking.copy_state()
            asking.tell(method, step, {**own, "rows": rows[mine] - first}, take_back)
            done.append((asking, before))
