"""The eval sets as one direction: the mean of their samples' unit vectors.

The mean of a sample's cosines with all anchors is its own unit vector times that mean: one vector is all that is kept.

Shapes: B rows of a batch, T tokens, h numbers of a token, U samples of a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex import ComponentError, RunContext
from dataflex.components.passes import Subtask
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import all_gather, together
from dataflex.lockstep import lockstep
from dataflex.math.segments import segment_ids, unit_of_tokens
from dataflex.scoring.hidden_states import HeadInput
from dataflex.scoring.inputs import model_inputs, trimmed
from dataflex.scoring.pooling import pooled_samples, span_tokens, unit
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.quiet import evaluating
from dataflex.scoring.rope import length_scaling
from dataflex_weighters_adapt.params import AdaptParams, Pooling, Tokens

Direction = npt.NDArray[np.float32]


def unit_vectors(hidden_BTh: torch.Tensor, samples_BT: torch.Tensor, samples: int, pooling: Pooling) -> torch.Tensor:
    """The direction of each sample, fp32, shape [U, h]; NaN for one without a token that counts."""
    return unit(
        pooled_samples(hidden_BTh, samples_BT, samples, "weighted_mean" if pooling is Pooling.POSITION else "mean")
    )


def mean_direction(model: nn.Module, targets: Sequence[Subtask], context: RunContext, params: AdaptParams) -> Direction:
    """The mean of the anchors' unit vectors under a model, shape [h]; the same on every rank, which all call it.

    Args:
        model: The unwrapped model; quiet meanwhile.
        targets: The eval sets, and which rows of them.
        context: The run.
        params: What counts of an anchor.

    Raises:
        ComponentError: on every rank, when one fails, and when no anchor has a direction.
    """
    total: npt.NDArray[np.float64] | None = None
    count = 0
    with (
        together("embedding the eval sets", context.accelerator),
        evaluating(model),
        lockstep(model, context.accelerator),
        HeadInput(model, skip_head=True) as head,
    ):
        for target in targets:
            own, those = _sum_of(model, head, target, context, params)
            total, count = own if total is None else total + own, count + those
    parts = [part for part in all_gather((total, count), context.accelerator) if part[0] is not None]
    anchors = sum(those for _, those in parts)
    if not anchors:
        raise ComponentError(
            "no sample of the eval sets has an embedding to compare with: none has a token that counts "
            f"(tokens: {params.tokens}), or the model's hidden states are not finite."
        )
    mean: Direction = (np.sum([part for part, _ in parts], axis=0) / anchors).astype(np.float32)
    return mean


def _sum_of(
    model: nn.Module, head: HeadInput, target: Subtask, context: RunContext, params: AdaptParams
) -> tuple[npt.NDArray[np.float64], int]:
    """The sum of this rank's anchors of an eval set, fp64, and how many they are."""
    accelerator, by_length = context.accelerator, length_scaling(model) is not None
    loader = ScoringLoader(
        target.dataset,
        context.data_collator,
        target.rows,
        token_budget=params.token_budget,
        rank=context.rank,
        world_size=context.world_size,
        device=accelerator.device if accelerator is not None else next(model.parameters()).device,
        same_length=by_length,
    )
    progress = ScoringProgress(
        len(target.rows), enabled=context.rank == 0, share=context.world_size, what=f"embedding {target.name}"
    )
    total, count = np.zeros(0), 0
    with progress:
        for rows, collated in loader:
            batch = trimmed(collated) if by_length else collated
            with accelerator.autocast() if accelerator is not None else contextlib.nullcontext():
                model(**model_inputs(model, batch))
            hidden_BTh = head.take(batch["input_ids"].shape[1])
            samples_BT, samples = _samples_of(batch, params.tokens)
            vectors_Uh = unit_vectors(hidden_BTh, samples_BT, samples, params.pooling)
            found_Uh = vectors_Uh[torch.isfinite(vectors_Uh).all(dim=1)].cpu().double().numpy()
            total = np.zeros(hidden_BTh.shape[-1]) if not len(total) else total
            if len(rows):  # else the batch repeats another rank's
                total, count = total + found_Uh.sum(axis=0), count + len(found_Uh)
            progress.advance(len(rows))
    return total, count


def _samples_of(batch: Any, tokens: Tokens) -> tuple[torch.Tensor, int]:
    """Which sample each token counts for, -1 for none; and how many samples there are, those of packed rows apart."""
    tokens_BT, segments_BT = batch["input_ids"], segment_ids(batch)
    samples = len(tokens_BT) * (1 if segments_BT is None else int(segments_BT.max()) + 1)
    every_U = torch.ones(samples, dtype=torch.bool, device=tokens_BT.device)
    counts_BT = span_tokens(batch, "all" if tokens is Tokens.ALL else "answer", None)
    return unit_of_tokens(segments_BT, every_U, tokens_BT).masked_fill(~counts_BT, -1), samples
