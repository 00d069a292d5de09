"""Reference losses of the samples that a weighter is asked about.

Shapes: B rows of a micro-batch, T tokens, U samples of it.
"""

from __future__ import annotations

import numpy as np
import torch

from dataflex.components.mix_context import MicroBatch
from dataflex.components.weight_context import WeightContext
from dataflex.errors import ComponentError
from dataflex.math.losses import IGNORE_INDEX
from dataflex.math.segments import segment_ids, unit_losses, unit_rows
from dataflex.scoring.reference.model import Reference


def sample_means(reference: Reference, context: WeightContext, losses_U: torch.Tensor) -> torch.Tensor:
    """The reference's mean loss per target token of each sample, in the order of ``weights()``, fp32, shape [U].

    A packed row is one row to the reference and has one mean for each sample in it.

    Args:
        reference: The reference.
        context: The micro-batch.
        losses_U: What ``weights()`` was given.

    Raises:
        ComponentError: when the rows of the samples are not known, or a reference loss is not finite.
    """
    if context.rows_B is None:
        raise ComponentError("the rows of the samples are not known, so their reference losses cannot be looked up.")
    labels_BT = context.inputs["labels"]
    mask_BT = labels_BT[:, 1:] != IGNORE_INDEX
    segments_BT = segment_ids(context.inputs)
    nothing_BT = torch.zeros(mask_BT.shape, device=mask_BT.device)
    used_U = unit_losses(nothing_BT, mask_BT, segments_BT).counts_B > 0
    rows_B = np.full(len(labels_BT), -1, np.int64)  # of a row without a target nothing is looked up
    rows_B[unit_rows(mask_BT, segments_BT)[used_U].cpu().numpy()] = context.rows_B
    losses_BT = reference.token_losses(MicroBatch(rows_B, context.inputs, nothing_BT, mask_BT))
    every = unit_losses(losses_BT.float().masked_fill(~mask_BT, 0.0), mask_BT, segments_BT)
    return every.means[used_U].to(losses_U)
