"""Samples inside packed rows, found again from what packing leaves in a batch.

Shapes: B rows, T tokens, U units (the samples of all rows, or the rows themselves where nothing is packed).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dataflex.math.losses import IGNORE_INDEX, SampleLosses

_MASKED_OUT = -1.0  # an additive attention mask is 0 where a token is seen and hugely negative where it is not


def segment_ids(inputs: Mapping[str, Any]) -> torch.Tensor | None:
    """Number the samples of each packed row.

    Three traces are read, in this order: an attention mask that numbers the samples (1, 2, ...; ``neat_packing`` before
    its collator), a block-diagonal 4D attention mask (after it), and position ids that begin again at 0.

    Args:
        inputs: The batch as the model gets it.

    Returns:
        Ids from 0 that never fall within a row, int64, shape [B, T]; padding shares the id of what it follows or leads
        to. ``None`` where no row holds more than one sample, or nothing tells.
    """
    starts = _starts(inputs)
    if starts is None or not bool(starts.any()):
        return None
    return starts.long().cumsum(dim=1)


def unit_losses(losses_BT: torch.Tensor, mask_BT: torch.Tensor, segments_BT: torch.Tensor | None) -> SampleLosses:
    """Sum token losses per unit.

    Args:
        losses_BT: Of :func:`dataflex.math.losses.token_losses`, shape [B, T-1]: entry ``t`` belongs to token ``t + 1``.
        mask_BT: Where there is a target, likewise.
        segments_BT: Of :func:`segment_ids`, shape [B, T]; ``None`` makes each row a unit.

    Returns:
        One entry for each unit, those without a target included.
    """
    if segments_BT is None:
        return SampleLosses(losses_BT.sum(dim=1), mask_BT.sum(dim=1))
    segments_BT = segments_BT.to(losses_BT.device)
    most = int(segments_BT.max()) + 1
    offsets_B1 = torch.arange(len(segments_BT), device=losses_BT.device).unsqueeze(1) * most
    units = (offsets_B1 + segments_BT[:, 1:]).flatten()  # a prediction belongs to the sample of its target
    size = len(segments_BT) * most
    sums_U = losses_BT.new_zeros(size).index_add(0, units, losses_BT.flatten())
    counts_U = torch.zeros(size, dtype=torch.int64, device=units.device).index_add(0, units, mask_BT.flatten().long())
    return SampleLosses(sums_U, counts_U)


def unit_rows(mask_BT: torch.Tensor, segments_BT: torch.Tensor | None) -> torch.Tensor:
    """Place of the row within the batch that each unit of :func:`unit_losses` is of, int64, shape [U]."""
    places_B = torch.arange(len(mask_BT), device=mask_BT.device)
    return places_B if segments_BT is None else places_B.repeat_interleave(int(segments_BT.max()) + 1)


def unit_of_tokens(segments_BT: torch.Tensor | None, used_U: torch.Tensor, like_BT: torch.Tensor) -> torch.Tensor:
    """Which unit each token is of, counted among those that are used; -1 for a token of another one.

    Args:
        segments_BT: Of :func:`segment_ids`; ``None`` makes each row a unit.
        used_U: Which of the units of :func:`unit_losses` count, bool.
        like_BT: Any tensor of the batch's shape.

    Returns:
        int64, shape [B, T]. Padding goes with what it follows or leads to.
    """
    places_B1 = torch.arange(len(like_BT), device=used_U.device).unsqueeze(1)
    if segments_BT is None:
        units_BT = places_B1.expand(like_BT.shape)
    else:
        segments_BT = segments_BT.to(used_U.device)
        units_BT = places_B1 * (int(segments_BT.max()) + 1) + segments_BT
    return torch.where(used_U, used_U.long().cumsum(dim=0) - 1, -1)[units_BT]


def _starts(inputs: Mapping[str, Any]) -> torch.Tensor | None:
    """Where a token begins another sample than the one before it, bool, shape [B, T]; ``None`` if nothing tells.

    Padding begins nothing, before, between or after samples.
    """
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if isinstance(mask, torch.Tensor) and mask.ndim == 2 and bool((mask > 1).any()):
        return _between_samples(mask[:, 1:] != mask[:, :-1], mask != 0)
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        before, itself = (_seen(torch.diagonal(mask[:, 0], offset=back, dim1=1, dim2=2)) for back in (-1, 0))
        return _between_samples(~before, itself)  # whether token t + 1 sees token t; padding does not see itself
    if isinstance(positions, torch.Tensor) and positions.ndim == 3:  # one plane per axis of multimodal rotary positions
        positions = positions[0]
    if isinstance(positions, torch.Tensor) and positions.ndim == 2:
        real = _not_padding(positions, mask, inputs.get("labels"))
        return _between_samples((positions[:, 1:] == 0) & ((positions[:, :-1] != 0) | ~real[:, :-1]), real)
    return None


def _seen(diagonal_BT: torch.Tensor) -> torch.Tensor:
    return diagonal_BT if diagonal_BT.dtype == torch.bool else diagonal_BT >= _MASKED_OUT


def _between_samples(changes_BT: torch.Tensor, real_BT: torch.Tensor) -> torch.Tensor:
    """Changes from one sample to the next: at the first token of a sample, if another came before it in the row.

    Args:
        changes_BT: Where a token does not go on with the one before, shape [B, T-1].
        real_BT: Where a token is no padding, shape [B, T].
    """
    later_BT = real_BT.long().cumsum(dim=1)[:, :-1] > 0
    return _first_false(changes_BT & real_BT[:, 1:] & later_BT)


def _not_padding(positions_BT: torch.Tensor, mask: Any, labels: Any) -> torch.Tensor:
    """Where a token is no padding. Without a mask, zeros that end a row count as such: not learnt, or several."""
    if isinstance(mask, torch.Tensor) and mask.shape == positions_BT.shape:
        return mask.to(positions_BT.device) != 0
    last_BT = (positions_BT != 0).long().flip(1).cumsum(dim=1).flip(1) == 0  # the run of zeros that ends the row
    last_BT &= (positions_BT != 0).any(
        dim=1, keepdim=True
    )  # a row of zeros holds samples of one token, or tells nothing
    if isinstance(labels, torch.Tensor) and labels.shape == positions_BT.shape:
        learnt_BT = (labels.to(positions_BT.device) != IGNORE_INDEX) & last_BT
        return ~(last_BT & ~learnt_BT.any(dim=1, keepdim=True))
    return ~(last_BT & (last_BT.sum(dim=1, keepdim=True) > 1))


def _first_false(starts: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(starts, (1, 0), value=False)
