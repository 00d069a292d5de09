"""Losses of a pool's rows under the current model, which is left exactly as it was found.

Shapes: B samples of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.passes import PoolLosses
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.errors import ComponentError
from dataflex.failures.saying import DIVERGED
from dataflex.math.losses import output_logits, sample_losses
from dataflex.scoring.batches import score_batches
from dataflex.scoring.inputs import batch_labels, model_inputs
from dataflex.scoring.objective import refuse_first_targets
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.shards import ShardStore

__all__ = ["STORE_WIDTH", "PoolLosses", "batch_losses", "mean_per_token", "score_pool"]

STORE_WIDTH = 2
"""Columns of a store: mean loss and number of targets."""


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
    table = score_batches(
        model,
        loader,
        lambda batch: batch_losses(model, batch),
        STORE_WIDTH,
        pool_size,
        accelerator,
        progress,
        store,
    )
    return PoolLosses(table[:, 0], table[:, 1])


def batch_losses(model: nn.Module, batch: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Mean loss and number of targets of each row of a batch, shape [B, 2].

    Raises:
        ComponentError: when the batch has no labels, the model returns no logits, or memory runs out.
    """
    labels_BT = batch_labels(batch)
    refuse_first_targets(model, labels_BT)
    try:
        outputs = model(**model_inputs(model, batch))
        losses = sample_losses(output_logits(outputs, labels_BT, model), labels_BT)
    except torch.cuda.OutOfMemoryError as error:
        rows, tokens = labels_BT.shape
        raise ComponentError(
            f"scoring ran out of memory on a batch of {rows} x {tokens} tokens. Lower component_params.token_budget "
            "(a single long row may exceed it: lower cutoff_len then)."
        ) from error
    columns = (losses.means, losses.counts_B)
    return np.asarray(torch.stack([column.detach().cpu().double() for column in columns], dim=1).numpy())


def mean_per_token(losses: PoolLosses, rows: npt.NDArray[np.int64], what: str) -> float:
    """Mean loss per target token over rows of a pool; NaN if they have no targets.

    Args:
        losses: Of these rows at least.
        rows: The rows.
        what: What it is, for the message: ``"the loss of domain web"``.

    Raises:
        ComponentError: when a loss is no number although there are targets: NaN would say that there are none.
    """
    targets, means = losses.targets[rows], losses.means[rows]
    used = targets > 0
    if not used.any():
        return float("nan")
    broken = int((~np.isfinite(means[used])).sum())
    if broken:
        raise ComponentError(f"{what} is not a number, for {broken} of {int(used.sum())} rows. {DIVERGED}")
    return float((means[used] * targets[used]).sum() / targets[used].sum())
