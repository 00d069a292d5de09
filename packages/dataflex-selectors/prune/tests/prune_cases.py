"""Selectors on pools of bare rows, fed with losses by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dataflex import RunContext, Selection
from dataflex_selectors_prune.params import PruneParams
from dataflex_selectors_prune.selector import PruneSelector


def selector(
    pool: int = 12, *, seed: int = 3, total: int | None = None, batch: int = 4, **params: Any
) -> PruneSelector:
    """A selector of a pool of so many rows."""
    context = RunContext(dataset=range(pool), data_collator=list, seed=seed, global_batch=batch, total_steps=total)
    return PruneSelector(PruneParams(**params), context)


def ask(made: PruneSelector, step: int, count: int) -> Selection:
    """What it chooses; it does not look at a model."""
    return made.select(None, step, count)  # type: ignore[arg-type]


def rows_of(chosen: Selection) -> list[int]:
    """The rows, as numbers."""
    return np.asarray(chosen.rows).tolist()


def weights_of(chosen: Selection) -> list[float]:
    """The weights, 1 where there are none."""
    return [1.0] * len(chosen.rows) if chosen.weights is None else np.asarray(chosen.weights).tolist()


def tell(made: PruneSelector, rows: Sequence[int], losses: Sequence[float], step: int = 1) -> None:
    """What a step of training saw."""
    made.on_rows(step, np.array(rows, np.int64), np.array(losses, np.float64))
