"""Aiming at a part of each target: ``max_validation`` rows, drawn once for a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext
from dataflex.components.passes import Subtask
from dataflex.errors import ComponentError
from dataflex.rng import stream

STATE = "validation/"
"""What the names of the rows begin with in a component's state; the target's name follows."""


class ValidationRows:
    """Keeps which rows of each target are aimed at.

    A component keeps one for the whole run, and its :meth:`state_dict` with its own: a resumed run aims at the same
    rows.

    Args:
        context: The run; each target's rows are drawn from (seed, "validation", target).
        limit: Rows of a target; ``None`` for all, which draws and keeps nothing.
    """

    def __init__(self, context: RunContext, limit: int | None) -> None:
        self._context, self._limit = context, limit
        self._places: dict[str, npt.NDArray[np.int64]] = {}

    def of(self, subtasks: Sequence[Subtask]) -> list[Subtask]:
        """The targets with the rows to aim at, in their order.

        Raises:
            ComponentError: when an eval set has fewer rows than when they were drawn.
        """
        return [self._bounded(name, subtask) for name, subtask in zip(names_of(subtasks), subtasks, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """The rows drawn so far; empty without a limit."""
        return {f"{STATE}{name}": places for name, places in self._places.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; other names are left alone."""
        if self._limit is not None:
            kept = {name.removeprefix(STATE): rows for name, rows in state.items() if name.startswith(STATE)}
            self._places = {name: np.asarray(rows, np.int64) for name, rows in kept.items()}

    def _bounded(self, name: str, subtask: Subtask) -> Subtask:
        if self._limit is None:
            return subtask
        places = self._places.get(name)
        if places is None or len(places) != min(self._limit, len(subtask.rows)):
            places = self._drawn(name, len(subtask.rows))
            self._places[name] = places
        if len(places) and places[-1] >= len(subtask.rows):
            raise ComponentError(
                f"the target {name!r} has {len(subtask.rows)} rows now, and row {places[-1]} of it was drawn "
                "when the run began (max_validation). Put the eval set back, or start anew."
            )
        return Subtask(subtask.name, subtask.dataset, subtask.rows[places])

    def _drawn(self, name: str, size: int) -> npt.NDArray[np.int64]:
        if self._limit is None or self._limit >= size:
            return np.arange(size, dtype=np.int64)
        rng = stream(self._context.seed, 0, "validation", name)  # a screen aims at the rows that its selector aims at
        return np.sort(rng.choice(size, size=self._limit, replace=False, shuffle=False)).astype(np.int64)


def names_of(subtasks: Sequence[Subtask]) -> list[str]:
    """Names of targets, each once: of two with one name, such as a value of a column in two eval sets, the second is
    numbered.
    """
    names: list[str] = []
    for subtask in subtasks:
        name, number = subtask.name, 1
        while name in names:
            number += 1
            name = f"{subtask.name}-{number}"
        names.append(name)
    return names
