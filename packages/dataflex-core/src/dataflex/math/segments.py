"""Samples inside packed rows, found again from what packing leaves in a batch.

Shapes: B rows, T tokens, U units (the samples of all rows, or the rows themselves where nothing is packed).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dataflex.math.losses import SampleLosses

_MASKED_OUT = -1.0  # an additive attention mask is 0 where a token is seen and hugely negative where it is not


def segment_ids(inputs: Mapping[str, Any]) -> torch.Tensor | None:
    """Number the samples of each packed row.

    Three traces are read, in this order: an attention mask that numbers the samples (1, 2, ...; ``neat_packing`` before
    its collator), a block-diagonal 4D attention mask (after it), and position ids that begin again at 0.

    Args:
        inputs: The batch as the model gets it.

    Returns:
        Ids from 0 that never fall within a row, int64, shape [B, T]; padding shares an id with a neighbour or has one
        of its own. ``None`` where no row holds more than one sample, or nothing tells.
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


def _starts(inputs: Mapping[str, Any]) -> torch.Tensor | None:
    """Where a token begins another sample than the one before it, bool, shape [B, T]; ``None`` if nothing tells."""
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if isinstance(mask, torch.Tensor) and mask.ndim == 2 and bool((mask > 1).any()):
        return _first_false(mask[:, 1:] != mask[:, :-1])
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        before = torch.diagonal(mask[:, 0], offset=-1, dim1=1, dim2=2)  # whether token t + 1 sees token t
        return _first_false(~before if before.dtype == torch.bool else before < _MASKED_OUT)
    if isinstance(positions, torch.Tensor) and positions.ndim == 3:  # one plane per axis of multimodal rotary positions
        positions = positions[0]
    if isinstance(positions, torch.Tensor) and positions.ndim == 2:
        return _first_false((positions[:, 1:] == 0) & (positions[:, :-1] != 0))
    return None


def _first_false(starts: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(starts, (1, 0), value=False)
