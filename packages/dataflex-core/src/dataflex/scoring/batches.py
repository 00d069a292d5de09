"""The loop of a scoring pass: this rank's batches through a function, finished ones to a store, all ranks gathered.

Shapes: B rows of a batch, W scores of a row, N rows this rank scored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import all_gather, together
from dataflex.errors import ComponentError
from dataflex.lockstep import lockstep
from dataflex.scoring.inputs import trimmed
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.quiet import evaluating
from dataflex.scoring.rope import length_scaling
from dataflex.scoring.shards import ShardStore

Rows = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]


def score_batches(
    model: nn.Module,
    loader: ScoringLoader,
    score: Callable[[Mapping[str, Any]], Table],
    width: int,
    pool_size: int,
    accelerator: Any,
    progress: ScoringProgress,
    store: ShardStore | None = None,
) -> Table:
    """Score this rank's batches and gather what the others scored.

    Args:
        model: The unwrapped model; quiet meanwhile and without gradient.
        loader: This rank's batches. For a model whose RoPE follows the longest row it puts rows of one length into
            each; padding is cut off then.
        score: From a batch to its scores, shape [B, W].
        width: W.
        pool_size: Rows of the whole pool.
        accelerator: The run's accelerator, whose autocast is used; or ``None``.
        progress: Told of every batch.
        store: Where finished scores are kept and, in its ``done``, those that need no scoring; of this width.

    Returns:
        Scores by row, shape [pool_size, W], NaN where no rank scored the row; the same on every rank.

    Raises:
        ComponentError: on every rank, when one fails.
    """
    found, by_length = [] if store is None else [store.done], length_scaling(model) is not None
    with together("scoring", accelerator), progress, evaluating(model), lockstep(model, accelerator):
        for rows, batch in loader:
            with accelerator.autocast() if accelerator is not None else contextlib.nullcontext():
                scores_BW = score(trimmed(batch) if by_length else batch)
            if len(rows):
                if len(scores_BW) != len(rows):
                    raise ComponentError(f"a batch of {len(rows)} rows was given {len(scores_BW)} scores.")
                found.append((rows, scores_BW))
                if store is not None:
                    store.add(*found[-1])
            progress.advance(len(rows))
        if store is not None:
            store.flush()
    own = joined(found, width)
    return spread(all_gather(own, accelerator), width, pool_size)


def joined(found: list[tuple[Rows, Table]], width: int) -> tuple[Rows, Table]:
    """Batches one after another: rows [N], scores [N, W]."""
    return (
        np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in found)]),
        np.concatenate([np.zeros((0, width)), *(scores for _, scores in found)]),
    )


def spread(parts: list[tuple[Rows, Table]], width: int, pool_size: int) -> Table:
    """Scores by row, shape [pool_size, W]; NaN for a row that is in no part."""
    table = np.full((pool_size, width), np.nan)
    for rows, scores in parts:
        table[rows] = scores
    return table
