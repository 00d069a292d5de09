"""Losses and margins of a stage of preferences, as ``context.preferences`` offers them.

::

    pairs --objective.numbers, batch by batch--> gathered over ranks --objective.scores--> losses, margins

What depends on other rows, the KL term of kto, is worked out of the numbers of all rows, so that batches and ranks
change nothing.

Shapes: B rows of a batch, W numbers of a row, N rows.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import Objective, PreferenceScores
from dataflex.data.scoring_loader import default_token_budget
from dataflex.distributed import together
from dataflex.errors import ComponentError
from dataflex.scoring.batches import Table
from dataflex.scoring.passes import checked_scores, device_of, open_store, run_pass, valid_rows
from dataflex.scoring.quiet import evaluating
from dataflex.scoring.rope import length_scaling

logger = logging.getLogger("dataflex")
ACCELERATOR_TOKENS = 4096
"""Tokens of a batch on an accelerator: the stage's own loss holds logits of all of them in fp32, twice 2.5 GB at a
vocabulary of 152k."""
_SAMPLED = 1024  # numbers of each weight of a reference, which nothing trains


def row_preferences(
    context: RunContext,
    model: nn.Module,
    rows: npt.ArrayLike,
    *,
    token_budget: int | None = None,
    key: Any = None,
) -> PreferenceScores:
    """See :meth:`dataflex.RunContext.preferences`."""
    began = time.monotonic()
    objective = context.objective
    if objective is None:
        raise ComponentError(
            f"context.preferences was asked for the loss of preferences, and the rows of stage: {context.stage or '-'} "
            "are single answers. Use context.losses, or declare Need.PREFERENCES so that such a run is refused."
        )
    chosen, reference = valid_rows(context, rows), objective.reference
    settings = {"pass": "preferences", **objective.settings}
    others = [] if reference is None else list(_sampled(reference))
    store = open_store(context, model, chosen, objective.width, key, settings=settings, others=others)
    alone = any(length_scaling(each) is not None for each in (model, reference) if each is not None)

    def score(batch: Mapping[str, Any]) -> Table:
        return _numbers(objective, model, batch)

    most = 1 if alone else None  # else a row's score would depend on the longest row of its batch
    if token_budget is None:
        token_budget = default_token_budget(device_of(context, model), ACCELERATOR_TOKENS)
    table, resumed = run_pass(
        context, model, chosen, score, objective.width, token_budget, most, store, "scoring preferences"
    )
    with together("scoring preferences", context.accelerator):
        found = objective.scores(table[chosen])
    size = len(context.dataset)
    losses, margins = (_placed(values, chosen, size) for values in found)
    broken = int(np.count_nonzero(~np.isfinite(losses[chosen])))
    seconds = time.monotonic() - began
    rate = (len(chosen) - resumed) / max(seconds, 1e-9)
    if context.rank == 0:
        logger.info("scored %d preferences in %.1f s (%.1f rows/s).", len(chosen), seconds, rate)
        if broken:
            logger.warning("%d of %d preferences have a NaN or infinite loss.", broken, len(chosen))
    return PreferenceScores(
        losses=losses, margins=margins, seconds=seconds, rows_per_second=rate, resumed=resumed, non_finite=broken
    )


def _numbers(objective: Objective, model: nn.Module, batch: Mapping[str, Any]) -> Table:
    quiet_reference = contextlib.nullcontext() if objective.reference is None else evaluating(objective.reference)
    try:
        with quiet_reference:
            numbers_BW = objective.numbers(model, batch)
    except torch.cuda.OutOfMemoryError as error:
        tokens = batch.get("input_ids")
        shape = f"{tokens.shape[0]} x {tokens.shape[1]}" if isinstance(tokens, torch.Tensor) else "unknown"
        raise ComponentError(
            f"scoring preferences ran out of memory on a batch of {shape} tokens. Lower component_params.token_budget "
            "(a single long pair may exceed it: lower cutoff_len then)."
        ) from error
    return checked_scores(numbers_BW, objective.width, "the stage's objective")


def _placed(values: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
    placed = np.full(size, np.nan)
    placed[rows] = values
    return placed


def _sampled(reference: nn.Module) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
    for name, parameter in reference.named_parameters():
        flat = parameter.detach().reshape(-1)
        yield f"reference {name}", (flat[:: max(1, flat.numel() // _SAMPLED)],)
