"""Several components at one boundary: if one fails on a rank, all of them are as they were before it, on every rank."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dataflex.components.asking import Asking
from dataflex.trainers.planners.selecting import Selecting


class Agreement:
    """What the parts of a plan agree on at a boundary: all of their answers, or none.

    Args:
        askings: Every component of the plan.
        select: The selector, which may have an instance for each domain.
        restore: Takes the planner back to a state.
    """

    def __init__(
        self, askings: Sequence[Asking], select: Selecting | None, restore: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._askings, self._select, self._restore = askings, select, restore
        self._step = 0
        self._before: Mapping[str, Any] = {}  # the planner, before the boundary
        self._asked: list[tuple[Asking, dict[str, Any] | None]] = []  # those asked since, as they were before

    def begin(self, step: int, before: Mapping[str, Any]) -> None:
        """Begin a boundary after so many optimizer steps, with the planner's state before it."""
        self._step, self._before, self._asked = step, before, []

    def note(self, asking: Asking) -> None:
        """Remember the state of a component that is about to be asked."""
        self._asked.append((asking, asking.copy_state()))

    @contextlib.contextmanager
    def of(self, asking: Asking, where: str = "") -> Iterator[None]:
        """Ask one part on every rank; if it fails, all parts are as they were before the boundary.

        Args:
            asking: The component.
            where: What messages call the boundary; by default its step.
        """
        select = self._select
        speaker: Callable[[], Asking] | None = None
        if select is not None and asking in select.askings:
            select.asking = asking
            speaker = lambda: select.asking  # noqa: E731 - it changes from domain to domain
        with asking.agreed(where or f"step {self._step}", self.kept, speaker):
            yield

    def kept(self) -> str:
        """Keep the steps done, with every part as it was before the boundary; how the sentence about it ends."""
        self._restore(self._before)
        progress = self._askings[0].progress
        with contextlib.ExitStack() as held:
            for asking, state in self._asked:
                if state is None:  # too large to copy
                    return progress.last_whole()
                held.enter_context(asking.holding(state))
            return progress.keep()
