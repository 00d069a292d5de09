"""From the hidden states of a batch to one vector a row.

Shapes: B rows of a batch, T tokens, h numbers of a token, d numbers of a row, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from dataflex.errors import ComponentError
from dataflex.math.losses import IGNORE_INDEX
from dataflex.math.projection import SparseProjection
from dataflex.scoring.inputs import batch_labels

Pooling = Literal["mean", "weighted_mean", "last"]
Span = Literal["all", "prompt", "answer"]
Squash = Literal["none", "tanh", "tanh_of_mean"]

SHORTEST = 1e-12
"""A vector shorter than this points nowhere."""


def real_tokens(batch: Mapping[str, Any]) -> torch.Tensor:
    """Which positions of a batch are no padding, shape [B, T]."""
    mask, tokens = batch.get("attention_mask"), batch["input_ids"]
    if not isinstance(mask, torch.Tensor):
        return torch.ones_like(tokens, dtype=torch.bool)
    if mask.ndim == 4:  # samples of a packed row keep apart: [B, 1, T, T], 0 or True where a token sees another
        return (mask if mask.dtype == torch.bool else mask.eq(0))[:, 0].any(dim=-1)
    return mask.ne(0)


def span_tokens(batch: Mapping[str, Any], span: Span, tokens: int | None) -> torch.Tensor:
    """Which positions count, shape [B, T]: of the span, without padding, the first ``tokens`` of each row.

    Raises:
        ComponentError: when prompt or answer is asked for and the batch has no labels.
    """
    chosen_BT = real_tokens(batch)
    if span != "all":
        answer_BT = batch_labels(batch).ne(IGNORE_INDEX)
        chosen_BT = chosen_BT & (answer_BT if span == "answer" else ~answer_BT)
    return chosen_BT if tokens is None else chosen_BT & (chosen_BT.cumsum(dim=1) <= tokens)


def modality_tokens(config: Any, input_ids: torch.Tensor) -> list[torch.Tensor]:
    """Positions of pictures and of text, each of shape [B, T].

    Raises:
        ComponentError: when the model's configuration does not say which tokens stand for pictures.
    """
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    given: list[Any] = [getattr(config, name, None) for name in names]
    numbers: set[int] = {int(number) for number in given if number is not None}
    if not numbers:
        raise ComponentError(
            "modalities: split was asked for, but the model's configuration does not say which tokens stand for "
            "pictures (it has no image_token_id). Use modalities: joint."
        )
    pictures_BT = torch.zeros_like(input_ids, dtype=torch.bool)
    for number in sorted(numbers):
        pictures_BT |= input_ids.eq(number)
    return [pictures_BT, ~pictures_BT]


def pooled(
    hidden_BTh: torch.Tensor, chosen_BT: torch.Tensor, pooling: Pooling = "weighted_mean", squash: Squash = "none"
) -> torch.Tensor:
    """One vector a row of the tokens that count, fp32, shape [B, h]; NaN for a row of which none counts.

    ``weighted_mean``: the t-th of T tokens that count weighs t / (1 + ... + T): later ones have seen more of the row
    (SGPT, Muennighoff 2022, arXiv 2202.08904; RDS+, Ivison et al. 2025, arXiv 2503.01807).
    """
    # Zeros, not weights of zero: what stands at a padded position may be anything.
    tokens_BTh = hidden_BTh.float().masked_fill(~chosen_BT.unsqueeze(-1), 0.0)
    if squash == "tanh":
        tokens_BTh = tokens_BTh.tanh()
    if pooling == "last":
        places_B = torch.where(chosen_BT, torch.arange(chosen_BT.shape[1], device=chosen_BT.device), -1).amax(dim=1)
        vectors_Bh = tokens_BTh[torch.arange(len(tokens_BTh), device=places_B.device), places_B.clamp(min=0)]
    else:
        vectors_Bh = _averages(tokens_BTh, chosen_BT.unsqueeze(1), pooling).squeeze(1)
    if squash == "tanh_of_mean":
        vectors_Bh = vectors_Bh.tanh()
    return vectors_Bh.masked_fill(~chosen_BT.any(dim=1, keepdim=True), torch.nan)


def pooled_samples(
    hidden_BTh: torch.Tensor, samples_BT: torch.Tensor, samples: int, pooling: Literal["mean", "weighted_mean"]
) -> torch.Tensor:
    """One vector for each sample of a batch whose rows may hold several, fp32, shape [samples, h].

    A sample of a packed row gets the vector that it has in a row of its own, as :func:`pooled` gives it; in fp32 under
    autocast, too.

    Args:
        hidden_BTh: Hidden states.
        samples_BT: Which sample each token counts for, -1 for none: numbers that rise along rows, and from row to row.
        samples: How many there are. NaN stands for one without a token.
        pooling: See :func:`pooled`.
    """
    none = torch.iinfo(samples_BT.dtype).max
    first_B1 = samples_BT.masked_fill(samples_BT < 0, none).amin(dim=1, keepdim=True)
    local_BT = torch.where(samples_BT < 0, -1, samples_BT - first_B1)
    most = max(int(local_BT.max()) + 1, 1) if local_BT.numel() else 1
    chosen_BST = local_BT.unsqueeze(1) == torch.arange(most, device=local_BT.device).view(1, -1, 1)
    with torch.autocast(hidden_BTh.device.type, enabled=False):
        tokens_BTh = hidden_BTh.float().masked_fill((samples_BT < 0).unsqueeze(-1), 0.0)
        vectors_BSh = _averages(tokens_BTh, chosen_BST, pooling)
    there_BS = chosen_BST.any(dim=2)
    vectors_Uh = vectors_BSh.new_full((samples, vectors_BSh.shape[-1]), torch.nan)
    numbers_BS = first_B1 + torch.arange(most, device=local_BT.device)
    vectors_Uh[numbers_BS[there_BS]] = vectors_BSh[there_BS]
    return vectors_Uh


def _averages(tokens_BTh: torch.Tensor, chosen_BST: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Means over several choices of tokens in each row, shape [B, S, h]; 0 for an empty one."""
    weights_BST = chosen_BST.float()
    if pooling == "weighted_mean":
        weights_BST = weights_BST * chosen_BST.cumsum(dim=2)
    weights_BST = weights_BST / weights_BST.sum(dim=2, keepdim=True).clamp(min=1.0)
    return torch.bmm(weights_BST, tokens_BTh)


def unit(vectors_Bd: torch.Tensor) -> torch.Tensor:
    """Rows of length 1; NaN for one that is shorter than :data:`SHORTEST`."""
    lengths_B1 = vectors_Bd.norm(dim=1, keepdim=True)
    return torch.where(lengths_B1 < SHORTEST, torch.nan, vectors_Bd / lengths_B1)


def row_vectors(
    layers_BTh: Sequence[torch.Tensor],
    chosen_BT: torch.Tensor,
    modalities_BT: Sequence[torch.Tensor] = (),
    *,
    pooling: Pooling = "weighted_mean",
    squash: Squash = "none",
    projection: SparseProjection | None = None,
) -> torch.Tensor:
    """One vector a row of several layers and modalities, fp32, shape [B, d], before it is centred.

    Each block (a layer's tokens of one modality) is pooled and brought to length 1; the blocks stand one after another,
    divided by the root of their number. A row without a token of one modality has zeros in its place; NaN stands for a
    row of which no token counts, or of which a block has no length.

    Args:
        layers_BTh: Hidden states of each layer.
        chosen_BT: Positions that count.
        modalities_BT: Positions of each modality; empty for one block of all.
        pooling: See :func:`pooled`.
        squash: ``tanh`` of each token before pooling, or of the pooled vector.
        projection: Brings the vectors to its width; ``None`` leaves them.
    """
    parts = [chosen_BT & each for each in modalities_BT] or [chosen_BT]
    blocks: list[torch.Tensor] = []
    for hidden_BTh in layers_BTh:
        for part_BT in parts:
            vectors_Bh = unit(pooled(hidden_BTh, part_BT, pooling, squash))
            missing_B = ~part_BT.any(dim=1) & chosen_BT.any(dim=1)
            blocks.append(vectors_Bh.masked_fill(missing_B.unsqueeze(1), 0.0) / (len(layers_BTh) * len(parts)) ** 0.5)
    if projection is None:
        return torch.cat(blocks, dim=1)
    result_dB = torch.zeros(projection.width, len(chosen_BT), device=chosen_BT.device)
    for number, block_Bh in enumerate(blocks):
        projection.add_(result_dB, f"block {number}", block_Bh)
    return result_dB.T
