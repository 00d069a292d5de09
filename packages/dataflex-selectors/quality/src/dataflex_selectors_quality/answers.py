"""Losses of the same answer tokens after their prompt and without it.

Shapes: B rows of a batch, T tokens, S answers of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dataflex.math.losses import IGNORE_INDEX, output_logits, token_losses
from dataflex.scoring.inputs import batch_labels, model_inputs
from dataflex.scoring.rope import length_scaling


def answer_losses(
    model: nn.Module, batch: Mapping[str, Any], header: Sequence[int] = (), begin: int | None = None
) -> torch.Tensor:
    """Mean loss of each row's answer after its prompt, mean loss without it, and tokens; fp32, shape [B, 3].

    Both means are over the same tokens. Of several answers of a row each stands alone the second time; the means are
    over the tokens of all. Where nothing stands before an answer the second time, its first token has no loss there,
    and is left out of both. A row that begins with an answer has no prompt, and so no losses.

    Args:
        model: The model.
        batch: As the collator made it, with labels.
        header: Tokens that stand before each answer in place of the prompt.
        begin: A token that begins texts; where a row begins with it, so does each of its answers alone.
    """
    labels_BT, tokens_BT = batch_labels(batch), batch["input_ids"]
    outputs = model(**model_inputs(model, batch))
    losses_BT, _ = token_losses(output_logits(outputs, labels_BT, model), labels_BT)
    del outputs
    sums_B3 = losses_BT.new_zeros(len(labels_BT), 3)
    alone: list[tuple[int, list[int], int]] = []  # row, tokens, how many of them stand before the answer
    for row, labels_T in enumerate(labels_BT.tolist()):
        spans = _spans(labels_T)
        if not spans or _begins_with_answer(batch, row, spans[0][0]):
            continue
        starts = [begin] if begin is not None and int(tokens_BT[row, _first(batch, row)]) == begin else []
        before = [*starts, *header]
        for start, stop in spans:
            first = start if before else start + 1
            sums_B3[row, 0] += losses_BT[row, first - 1 : stop - 1].sum()
            sums_B3[row, 2] += stop - first
            alone.append((row, [*before, *tokens_BT[row, start:stop].tolist()], len(before)))
    for few in _together(alone, one_by_one=length_scaling(model) is not None):
        rows = torch.tensor([row for row, _, _ in few], device=sums_B3.device)
        sums_B3[:, 1].index_add_(0, rows, _alone(model, few, tokens_BT.device).to(sums_B3.device))
    tokens_B = sums_B3[:, 2:]
    means_B2 = torch.where(tokens_B > 0, sums_B3[:, :2] / tokens_B.clamp(min=1), torch.nan)
    return torch.cat([means_B2, tokens_B], dim=1)


def _alone(model: nn.Module, few: Sequence[tuple[int, list[int], int]], device: torch.device) -> torch.Tensor:
    """Sum of the losses of each answer without its prompt, shape [S]."""
    width = max(len(tokens) for _, tokens, _ in few)
    tokens_ST = torch.zeros(len(few), width, dtype=torch.long)
    mask_ST, labels_ST = torch.zeros_like(tokens_ST), torch.full_like(tokens_ST, IGNORE_INDEX)
    for place, (_, tokens, before) in enumerate(few):
        tokens_ST[place, : len(tokens)] = torch.tensor(tokens)
        mask_ST[place, : len(tokens)] = 1
        labels_ST[place, before : len(tokens)] = torch.tensor(tokens[before:])
    labels_ST = labels_ST.to(device)
    outputs = model(**model_inputs(model, {"input_ids": tokens_ST.to(device), "attention_mask": mask_ST.to(device)}))
    losses_ST, _ = token_losses(output_logits(outputs, labels_ST, model), labels_ST)
    return losses_ST.sum(dim=1)


def _spans(labels_T: Sequence[int]) -> list[tuple[int, int]]:
    """Where each run of labels begins and ends."""
    spans, start = [], None
    for place, label in enumerate([*labels_T, IGNORE_INDEX]):
        if label != IGNORE_INDEX and start is None:
            start = place
        elif label == IGNORE_INDEX and start is not None:
            spans.append((start, place))
            start = None
    return spans


def _first(batch: Mapping[str, Any], row: int) -> int:
    """The first position of a row that is no padding."""
    mask = batch.get("attention_mask")
    return int(mask[row].ne(0).int().argmax()) if isinstance(mask, torch.Tensor) and mask.ndim == 2 else 0


def _begins_with_answer(batch: Mapping[str, Any], row: int, start: int) -> bool:
    return start <= _first(batch, row)


def _together(alone: list[tuple[int, list[int], int]], *, one_by_one: bool) -> list[list[tuple[int, list[int], int]]]:
    if one_by_one:  # padding would change what a model computes whose RoPE follows the longest row
        return [[each] for each in alone]
    return [alone] if alone else []
