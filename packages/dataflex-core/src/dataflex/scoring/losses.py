"""Losses of a pool's rows under the current model, which is left exactly as it was found.

Shapes: B samples of a batch, T tokens, N rows this rank scored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import gather_scores, together
from dataflex.errors import ComponentError
from dataflex.math.losses import SampleLosses, output_logits, sample_losses
from dataflex.scoring.inputs import batch_labels, model_inputs, trimmed
from dataflex.scoring.objective import refuse_first_targets
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.quiet import evaluating
from dataflex.scoring.rope import length_scaling
from dataflex.scoring.shards import ShardStore

STORE_WIDTH = 2
"""Columns of a store: mean loss and number of targets."""


@dataclass(frozen=True)
class PoolLosses:
    """Losses of a pool's rows, the same on every rank.

    Attributes:
        means: Mean loss per target token, fp64, shape [pool]; NaN where a row was not scored or has no target.
        targets: Target tokens of each row, fp64, shape [pool]; NaN where a row was not scored.
    """

    means: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]


def score_pool(
    model: nn.Module,
    loader: ScoringLoader,
    pool_size: int,
    accelerator: Any,
    progress: ScoringProgress,
    store: ShardStore | None = None,
) -> PoolLosses:
    """Score this rank's batches and gather what the others scored.

    Args:
        model: The unwrapped model.
        loader: This rank's batches. For a model whose RoPE follows the longest row it puts rows of one
            length into each; padding is cut off then.
        pool_size: Rows of the whole pool.
        accelerator: The run's accelerator, whose autocast is used; or ``None``.
        progress: Told of every batch.
        store: Where finished losses are kept and, in its ``done``, those that need no scoring; of width
            :data:`STORE_WIDTH`.

    Raises:
        ComponentError: on every rank, when the batches have no labels, the model returns no logits, or memory runs
            out on one of them.
    """
    found, by_length = [] if store is None else [store.done], length_scaling(model) is not None
    with together("scoring", accelerator), progress, evaluating(model):
        for rows, batch in loader:
            with accelerator.autocast() if accelerator is not None else contextlib.nullcontext():
                losses = _score_batch(model, trimmed(batch) if by_length else batch)
            if len(rows):
                found.append((rows, _table(losses)))
                if store is not None:
                    store.add(*found[-1])
            progress.advance(len(rows))
        if store is not None:
            store.flush()
    rows_N = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in found)])
    table_N2 = np.concatenate([np.zeros((0, STORE_WIDTH)), *(table for _, table in found)])
    return PoolLosses(
        gather_scores(rows_N, table_N2[:, 0], pool_size, accelerator),
        gather_scores(rows_N, table_N2[:, 1], pool_size, accelerator),
    )


def _table(losses: SampleLosses) -> npt.NDArray[np.float64]:
    columns = (losses.means, losses.counts_B)
    return torch.stack([column.detach().cpu().double() for column in columns], dim=1).numpy()


def _score_batch(model: nn.Module, batch: Mapping[str, Any]) -> SampleLosses:
    labels_BT = batch_labels(batch)
    refuse_first_targets(model, labels_BT)
    try:
        outputs = model(**model_inputs(model, batch))
        return sample_losses(output_logits(outputs, labels_BT, model), labels_BT)
    except torch.cuda.OutOfMemoryError as error:
        rows, tokens = labels_BT.shape
        raise ComponentError(
            f"scoring ran out of memory on a batch of {rows} x {tokens} tokens. Lower component_params.token_budget "
            "(a single long row may exceed it: lower cutoff_len then)."
        ) from error
