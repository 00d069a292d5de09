"""What LESS aims at: the validation samples, in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.components.passes import Subtask
from dataflex.scoring import subtasks


def subtasks_of(
    eval_datasets: Mapping[str, Any], column: str | None, targets: Sequence[str] | None = None
) -> list[Subtask]:
    """:func:`dataflex.scoring.subtasks.subtasks_of`, with errors that name LESS."""
    return subtasks.subtasks_of(eval_datasets, column, targets, who="LESS")
