"""What a selector aims at: the samples of the eval sets, in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataflex.components.passes import Subtask
from dataflex.errors import ConfigError


def subtasks_of(
    eval_datasets: Mapping[str, Any], column: str | None, targets: Sequence[str] | None = None, *, who: str
) -> list[Subtask]:
    """Make each eval set a subtask, or each value of a column.

    Args:
        eval_datasets: The run's eval sets by name.
        column: Name of a column of each eval set whose values name the subtasks, or ``None``.
        targets: Names of the eval sets to use, or ``None`` for all.
        who: The component, for messages.

    Raises:
        ConfigError: when there is no eval set, one is empty or streamed, or lacks the column, or a target is none.
    """
    if not eval_datasets:
        raise ConfigError(f"{who} aims at an eval set and the run has none. Set eval_dataset or val_size.")
    unknown = [name for name in targets or () if name not in eval_datasets]
    if unknown:
        raise ConfigError(
            f"component_params.targets names {', '.join(unknown)}, but the eval sets are {', '.join(eval_datasets)} "
            "(a single one is called eval). Set eval_on_each_dataset: true, or correct the name."
        )
    found: list[Subtask] = []
    for name in targets or eval_datasets:
        dataset = eval_datasets[name]
        if not hasattr(dataset, "__len__") or not len(dataset):
            raise ConfigError(f"the eval set {name!r} is empty or streamed, so {who} cannot aim at it.")
        if column is None:
            found.append(Subtask(name, dataset, np.arange(len(dataset), dtype=np.int64)))
        else:
            found += _by_column(name, dataset, column)
    return found


def _by_column(name: str, dataset: Any, column: str) -> list[Subtask]:
    rows: dict[str, list[int]] = {}
    for row in range(len(dataset)):
        features = dataset[row]
        if column not in features:
            raise ConfigError(
                f"the eval set {name!r} has no column {column!r} (it has: {', '.join(features)}); LlamaFactory drops "
                "columns it does not know. Make each subtask an eval set of its own, with eval_on_each_dataset: true, "
                "and leave component_params.subtask_column out."
            )
        rows.setdefault(str(features[column]), []).append(row)
    return [Subtask(value, dataset, np.asarray(those, dtype=np.int64)) for value, those in rows.items()]
