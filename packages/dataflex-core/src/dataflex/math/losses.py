"""Next-token losses per sample, computed once and shared by every component that ranks or weighs by loss.

    model outputs -> output_logits -> token_losses -> sample_losses

Memory: fp32 logits of 4 x 4096 x 152k are 10 GB, so cross entropy is taken over chunks of target tokens and no fp32
copy of a batch's logits ever exists.

Shapes: B samples, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dataflex.errors import ComponentError

IGNORE_INDEX = -100
"""Label of a token that is no target."""

CHUNK_TOKENS = 1024
"""Target tokens whose logits are held in fp32 at one time: 0.6 GB at a vocabulary of 152k."""


@dataclass(frozen=True)
class SampleLosses:
    """Summed loss and number of targets of each sample.

    Attributes:
        sums_B: Sum of the token losses, fp32.
        counts_B: Number of target tokens, int64.
    """

    sums_B: torch.Tensor
    counts_B: torch.Tensor

    @property
    def means(self) -> torch.Tensor:
        """Mean loss per target token, shape [B]; NaN for a sample without targets, which has no loss."""
        return torch.where(self.counts_B > 0, self.sums_B / self.counts_B.clamp(min=1), torch.nan)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross entropy of chosen rows of the logits; a chunk's fp32 copy is made again in backward, never kept.

    Indexing and checkpointing chunk by chunk would leave the sum of the chunks' gradients to autograd, which makes a
    buffer of the logits' full size for each of them. Here all chunks are written into one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits_NV: torch.Tensor,
        rows_M: torch.Tensor,
        targets_M: torch.Tensor,
        chunk_tokens: int,
        label_smoothing: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(logits_NV, rows_M, targets_M)
        ctx.chunk_tokens, ctx.label_smoothing = chunk_tokens, label_smoothing
        losses = [
            _cross_entropy(logits_NV[rows], targets, label_smoothing)
            for rows, targets in zip(rows_M.split(chunk_tokens), targets_M.split(chunk_tokens), strict=True)
        ]
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads_M: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits_NV, rows_M, targets_M = ctx.saved_tensors
        grads_NV = torch.zeros_like(logits_NV)
        parts = (tensor.split(ctx.chunk_tokens) for tensor in (rows_M, targets_M, grads_M))
        for rows, targets, grads in zip(*parts, strict=True):
            with torch.enable_grad():
                chunk = logits_NV.detach()[rows].requires_grad_()
                losses = _cross_entropy(chunk, targets, ctx.label_smoothing)
            grads_NV.index_copy_(0, rows, torch.autograd.grad(losses, chunk, grads)[0])
        return grads_NV, None, None, None, None


def _cross_entropy(logits_NV: torch.Tensor, targets_N: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    return functional.cross_entropy(logits_NV.to(dtype), targets_N, reduction="none", label_smoothing=label_smoothing)


def token_losses(
    logits_BTV: torch.Tensor,
    labels_BT: torch.Tensor,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    label_smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of every target token, with the shift done here.

    With gradient, the memory beyond the logits and their gradient is that of one chunk, in both directions.

    Args:
        logits_BTV: Logits as the model returns them, in any floating type.
        labels_BT: Labels as the collator returns them, unshifted; :data:`IGNORE_INDEX` where there is no target.
        chunk_tokens: Target tokens converted to fp32 at one time.
        label_smoothing: Share of the target's probability that is spread over the vocabulary, as in
            ``transformers.TrainingArguments.label_smoothing_factor``.

    Returns:
        ``losses`` and ``mask``, both of shape [B, T-1]: entry ``[b, t]`` belongs to the prediction of token ``t + 1``.
        Losses are fp32 (fp64 for fp64 logits) and zero where ``mask`` is False.
    """
    targets_BT = labels_BT[:, 1:].to(logits_BTV.device)
    mask_BT = targets_BT != IGNORE_INDEX
    positions, vocabulary = logits_BTV.shape[1:]
    logits_NV = logits_BTV.reshape(-1, vocabulary)
    if len(logits_NV) <= chunk_tokens:  # one chunk, kept: cheaper than to make it again
        every_BT = functional.pad(targets_BT, (0, 1), value=IGNORE_INDEX)
        losses_N = _cross_entropy(logits_NV, every_BT.flatten(), label_smoothing)
        return losses_N.view(every_BT.shape)[:, :-1], mask_BT
    samples_M, columns_M = mask_BT.nonzero(as_tuple=True)
    rows_M, targets_M = samples_M * positions + columns_M, targets_BT[samples_M, columns_M]
    losses_M = _ChunkedCrossEntropy.apply(logits_NV, rows_M, targets_M, chunk_tokens, label_smoothing)
    losses_BT = losses_M.new_zeros(mask_BT.shape).index_put((samples_M, columns_M), losses_M)
    return losses_BT, mask_BT


def sample_losses(
    logits_BTV: torch.Tensor, labels_BT: torch.Tensor, *, chunk_tokens: int = CHUNK_TOKENS
) -> SampleLosses:
    """Sum :func:`token_losses` per sample; a padded batch gives what each row gives alone."""
    losses_BT, mask_BT = token_losses(logits_BTV, labels_BT, chunk_tokens=chunk_tokens)
    return SampleLosses(losses_BT.sum(dim=1), mask_BT.sum(dim=1))


def output_logits(outputs: Any, labels_BT: torch.Tensor, model: Any = None) -> torch.Tensor:
    """Take the logits out of a model's outputs, one position for each label.

    Prompt-learning adapters (prompt tuning, p-tuning) put virtual tokens before the text, so their logits are longer
    than the labels; the leading extra positions are dropped. The first token is no target then, as without an adapter.

    Args:
        outputs: What ``model(**batch)`` returned.
        labels_BT: The batch's labels.
        model: The model that was called, to tell a prompt-learning adapter from a model whose logits do not line up.

    Raises:
        ComponentError: when there are no logits, or they cannot be aligned with the labels.
    """
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if logits is None and isinstance(outputs, tuple) and outputs:
        logits = outputs[0]
    if not isinstance(logits, torch.Tensor) or logits.ndim != 3:
        raise ComponentError(
            "the model returned no logits, so the losses of single samples cannot be told apart. A fused loss (Liger "
            "kernel) keeps them to itself: set enable_liger_kernel: false in the run file."
        )
    extra = logits.shape[1] - labels_BT.shape[1]
    if extra > 0 and _has_virtual_tokens(model):
        return logits[:, extra:]
    if extra:
        raise ComponentError(
            f"the model returned logits for {logits.shape[1]} positions, but the batch has {labels_BT.shape[1]} "
            "labels per sample. DataFlex cannot line them up: this model inserts or drops positions in its forward."
        )
    return logits


def _has_virtual_tokens(model: Any) -> bool:
    from peft import PeftModel

    wrapped = model if isinstance(model, PeftModel) else getattr(model, "module", None)
    return isinstance(wrapped, PeftModel) and bool(wrapped.active_peft_config.is_prompt_learning)
