"""What LESS aims at: the validation samples, in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataflex import ConfigError
from dataflex.components.passes import Subtask
from dataflex.scoring import subtasks


def subtasks_of(
    eval_datasets: Mapping[str, Any],
    column: str | None,
    targets: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
) -> list[Subtask]:
    """:func:`dataflex.scoring.subtasks.subtasks_of`, with errors that name LESS.

    Args:
        eval_datasets: The run's eval sets by name.
        column: Of whose values each is a subtask; ``None`` makes each eval set one.
        targets: Names of the eval sets to use; ``None`` for all.
        sizes: Rows of the subtasks that the one eval set is cut into, in its order; ``None`` cuts nothing.

    Raises:
        ConfigError: as there, and when sizes do not add up to the one eval set.
    """
    found = subtasks.subtasks_of(eval_datasets, column, targets, who="LESS")
    return found if sizes is None else _cut(found, sizes)


def _cut(found: Sequence[Subtask], sizes: Sequence[int]) -> list[Subtask]:
    written = f"component_params.task_boundaries: [{', '.join(map(str, sizes))}]"
    if len(found) > 1:
        raise ConfigError(
            f"{written} cuts one eval set into subtasks, and there are {len(found)}, which are subtasks already "
            f"({', '.join(one.name for one in found)}). Leave it out, or name one of them under "
            "component_params.targets."
        )
    whole = found[0]
    if sum(sizes) != len(whole.rows):
        raise ConfigError(
            f"{written} adds up to {sum(sizes)} rows, but the eval set {whole.name!r} has {len(whole.rows)}. They are "
            "sizes, not places: correct them, or list each subtask as an eval set of its own."
        )
    pieces = np.split(whole.rows, np.cumsum(sizes)[:-1])
    return [Subtask(f"{whole.name}-{number}", whole.dataset, rows) for number, rows in enumerate(pieces, 1)]
