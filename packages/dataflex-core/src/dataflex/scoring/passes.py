"""Passes over rows of the pool, as ``context.score`` and ``context.losses`` offer them.

Shapes: B rows of a batch, T tokens, W scores of a row.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import PoolLosses, Scored, ScoreFn
from dataflex.data.fingerprint import contents
from dataflex.data.scoring_loader import MAX_BATCH, ScoringLoader
from dataflex.distributed import assert_same_on_all_ranks
from dataflex.errors import ComponentError
from dataflex.scoring.batches import Table, score_batches
from dataflex.scoring.losses import STORE_WIDTH, batch_losses
from dataflex.scoring.objective import objective_of, refuse_own_loss
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.rope import length_scaling
from dataflex.scoring.shards import ShardStore, of_all_ranks, pass_fingerprint

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
SHARD_SECONDS = 60.0
"""How often the finished parts of a pass with a key are written."""


def score_rows(
    context: RunContext,
    model: nn.Module,
    rows: npt.ArrayLike,
    fn: ScoreFn,
    *,
    width: int = 1,
    token_budget: int | None = None,
    max_batch: int | None = None,
    key: Any = None,
    what: str = "scored",
) -> Scored:
    """See :meth:`dataflex.RunContext.score`."""
    began = time.monotonic()
    if width < 1:
        raise ComponentError(f"context.score was asked for width={width}; a row has at least one score.")
    chosen = valid_rows(context, rows)
    store = open_store(context, model, chosen, width, key, settings={"pass": "score"})

    def score(batch: Mapping[str, Any]) -> Table:
        try:
            return checked_scores(fn(model, batch), width, "the function given to context.score")
        except torch.cuda.OutOfMemoryError as error:
            raise ComponentError(
                f"the function given to context.score ran out of memory on a batch of {_shape_of(batch)} tokens. Lower "
                "the token_budget (a single long row may exceed it: lower cutoff_len then)."
            ) from error

    table, resumed = run_pass(context, model, chosen, score, width, token_budget, max_batch, store, what)
    scores = table[chosen]
    non_finite = int((~np.isfinite(scores).all(axis=1)).sum())
    seconds = time.monotonic() - began
    rate = (len(chosen) - resumed) / max(seconds, 1e-9)
    if context.rank == 0:
        logger.info("%s %d rows in %.1f s (%.1f rows/s).", what, len(chosen), seconds, rate)
        if non_finite:
            logger.warning("%d of the %d rows that were %s have no finite score.", non_finite, len(chosen), what)
    values = table[:, 0] if width == 1 else table
    return Scored(values=values, seconds=seconds, rows_per_second=rate, resumed=resumed, non_finite=non_finite)


def row_losses(
    context: RunContext,
    model: nn.Module,
    rows: npt.ArrayLike,
    *,
    token_budget: int | None = None,
    key: Any = None,
    checked: set[str],
) -> PoolLosses:
    """See :meth:`dataflex.RunContext.losses`; ``checked`` names the models looked at."""
    began = time.monotonic()
    chosen = valid_rows(context, rows)
    if (objective := objective_of(model)) not in checked:
        device = device_of(context, model)
        refuse_own_loss(model, context.dataset, context.data_collator, chosen, device, context.accelerator)
        checked.add(objective)
    store = open_store(context, model, chosen, STORE_WIDTH, key, settings={"pass": "losses"})

    def score(batch: Mapping[str, Any]) -> Table:
        return batch_losses(model, batch)

    table, resumed = run_pass(context, model, chosen, score, STORE_WIDTH, token_budget, None, store, "scoring")
    means, targets = table[:, 0], table[:, 1]
    broken = int(np.count_nonzero(~np.isfinite(means[chosen]) & (targets[chosen] > 0)))
    without = int(np.count_nonzero(targets[chosen] == 0))
    seconds = time.monotonic() - began
    rate = (len(chosen) - resumed) / max(seconds, 1e-9)
    if context.rank == 0:
        logger.info("scored %d rows in %.1f s (%.1f rows/s).", len(chosen), seconds, rate)
        if broken or without:
            logger.warning("%d samples have a NaN or infinite loss and %d have no target token.", broken, without)
        if _is_packed(context):
            logger.info("The pool is packed: a row of several samples is scored as one.")
    return PoolLosses(means, targets, seconds=seconds, rows_per_second=rate, resumed=resumed, non_finite=broken)


def valid_rows(context: RunContext, rows: npt.ArrayLike) -> Rows:
    """Rows to look at, ascending, each once; the same on every rank.

    Raises:
        ComponentError: when they are none of the pool, or ranks ask for different ones.
    """
    asked, size = np.asarray(rows), len(context.dataset)
    if asked.ndim != 1 or (len(asked) and not np.issubdtype(asked.dtype, np.integer)):
        raise ComponentError(
            f"rows to score must be one list of row indices, not {asked.dtype} of shape {list(asked.shape)}."
        )
    chosen = np.unique(asked.astype(np.int64))
    if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < size:
        outside = chosen[0] if chosen[0] < 0 else chosen[-1]
        raise ComponentError(f"row {outside} was to be scored; the pool has rows 0 to {size - 1}.")
    assert_same_on_all_ranks("the list of rows to score", chosen, context.accelerator)
    return chosen


def device_of(context: RunContext, model: nn.Module) -> Any:
    """Where batches for a model are moved."""
    if context.accelerator is not None:
        return context.accelerator.device
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def open_store(
    context: RunContext,
    model: nn.Module,
    rows: Rows,
    width: int,
    key: Any,
    *,
    settings: Mapping[str, Any],
    data: Iterable[str] = (),
    others: Iterable[tuple[str, tuple[torch.Tensor, ...]]] = (),
    seconds: float = SHARD_SECONDS,
) -> ShardStore | None:
    """Where the finished parts of a pass are kept: a folder for the key, in it one for all that the scores depend on.

    Args:
        context: The run.
        model: The model that scores.
        rows: The rows of the pass, whose contents count too.
        width: Columns of the results.
        key: What the caller calls the pass, JSON values; ``None`` keeps nothing.
        settings: What else the scores depend on, JSON values.
        data: Fingerprints of other data they depend on.
        others: Tensors they depend on beside the weights, with what describes them.
        seconds: How often to write; 0 keeps nothing.

    Raises:
        ComponentError: when the key is not made of JSON values.
    """
    if key is None or not seconds:
        return None
    try:
        named = json.dumps(key, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ComponentError(f"the key of a pass must be of JSON values: {error}.") from error
    precision = str(getattr(context.accelerator, "mixed_precision", "no"))
    depends = {**settings, "key": named, "precision": precision, "width": width}
    digest = pass_fingerprint(model, [contents(context.dataset, rows), *data], depends, others)
    folder = hashlib.blake2b(named.encode(), digest_size=6).hexdigest()
    digest = of_all_ranks(digest, model, context.accelerator)
    path = context.cache_dir / f"pass-{folder}" / f"scores-{digest}"
    return ShardStore(path, width, rank=context.rank, seconds=seconds)


def run_pass(
    context: RunContext,
    model: nn.Module,
    rows: Rows,
    score: Any,
    width: int,
    token_budget: int | None,
    max_batch: int | None,
    store: ShardStore | None,
    what: str,
) -> tuple[Table, int]:
    """Scores by row, shape [pool, W], and how many rows an interrupted pass had left."""
    done = rows[:0] if store is None else store.resume(rows, context.accelerator)
    loader = ScoringLoader(
        context.dataset,
        context.data_collator,
        rows,
        token_budget=token_budget,
        max_batch=MAX_BATCH if max_batch is None else max_batch,
        rank=context.rank,
        world_size=context.world_size,
        device=device_of(context, model),
        skipped=done,
        same_length=length_scaling(model) is not None,  # else a row's score would depend on its batch
    )
    progress = ScoringProgress(len(rows) - len(done), enabled=context.rank == 0, share=context.world_size, what=what)
    size = len(context.dataset)
    table = score_batches(model, loader, score, width, size, context.accelerator, progress, store)
    if store is not None and context.rank == 0:
        store.drop_others()
    return table, len(np.unique(done))


def checked_scores(scores: Any, width: int, who: str) -> Table:
    """The scores of a batch's rows that an author's code gave, fp64, shape [B, W].

    Raises:
        ComponentError: when they are of another type or shape.
    """
    if not isinstance(scores, torch.Tensor):
        raise ComponentError(f"{who} returned {type(scores).__name__}; scores of a batch are a tensor.")
    if scores.dtype not in (torch.float32, torch.float64):
        raise ComponentError(
            f"{who} returned {scores.dtype}; scores are fp32 or fp64. Take logits.float() before computing them."
        )
    if scores.ndim == 1 and width == 1:
        scores = scores.unsqueeze(1)
    if scores.ndim != 2 or scores.shape[1] != width:
        wanted = "[rows of the batch]" if width == 1 else f"[rows of the batch, {width}]"
        raise ComponentError(f"{who} returned shape {list(scores.shape)}; with width={width} it must be {wanted}.")
    return np.array(scores.detach().cpu().double().numpy())


def _shape_of(batch: Mapping[str, Any]) -> str:
    tensors = (value for value in (batch.get("input_ids"), *batch.values()) if isinstance(value, torch.Tensor))
    return " x ".join(str(size) for size in getattr(next(tensors, None), "shape", ())[:2])


def _is_packed(context: RunContext) -> bool:
    columns = getattr(context.dataset, "column_names", None) or []
    return bool(getattr(context.data_collator, "neat_packing", False)) or "packing_params" in columns
