"""Gradients of the chunked cross entropy, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dataflex.math.losses import IGNORE_INDEX, token_losses


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(3, 9, 17, generator=draw)).to(dtype).requires_grad_()
    labels = torch.randint(0, 17, (3, 9), generator=draw)
    labels[0, :4] = IGNORE_INDEX
    labels[1] = IGNORE_INDEX
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk_tokens", [1, 4, 1024])
def test_the_gradient_is_that_of_one_cross_entropy_over_all_tokens(chunk_tokens: int, smoothing: float) -> None:
    logits, labels = batch()
    losses, mask = token_losses(logits, labels, chunk_tokens=chunk_tokens, label_smoothing=smoothing)
    (losses.sum() / mask.sum()).backward()
    reference = logits.detach().clone().requires_grad_()
    expected = functional.cross_entropy(
        reference[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=smoothing
    )
    expected.backward()
    assert torch.allclose(losses.sum() / mask.sum(), expected, rtol=1e-6)
    assert torch.allclose(logits.grad, reference.grad, rtol=0, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_fp64_gradients_hold_against_finite_differences(smoothing: float) -> None:
    logits, labels = batch(torch.float64)

    def weighted(values: torch.Tensor) -> torch.Tensor:
        losses, _ = token_losses(values, labels, chunk_tokens=3, label_smoothing=smoothing)
        return losses * torch.arange(1.0, 9.0, dtype=torch.float64)

    assert torch.autograd.gradcheck(weighted, (logits,), atol=1e-7)


def test_bf16_logits_get_the_gradient_of_their_fp32_copy() -> None:
    logits, labels = batch(torch.bfloat16)
    token_losses(logits, labels, chunk_tokens=2)[0].sum().backward()
    reference = logits.detach().float().requires_grad_()
    functional.cross_entropy(reference[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum").backward()
    assert torch.equal(logits.grad, reference.grad.bfloat16())


def test_tokens_without_weight_get_no_gradient_and_all_others_do() -> None:
    logits, labels = batch()
    losses, mask = token_losses(logits, labels)
    weights = torch.zeros_like(losses)
    weights[2] = 1.0
    (losses * weights).sum().backward()
    moved = logits.grad.abs().sum(dim=-1) > 0
    assert moved[2, :-1].all() and not moved[:2].any() and not moved[2, -1]
    assert mask[2].all()


def test_a_batch_without_targets_has_a_loss_of_zero_and_gradients_of_zero() -> None:
    logits, labels = batch()
    losses, mask = token_losses(logits, torch.full_like(labels, IGNORE_INDEX))
    losses.sum().backward()
    assert not mask.any() and losses.sum() == 0 and not logits.grad.any()


def test_no_fp32_copy_of_the_logits_outlives_a_chunk() -> None:
    logits, labels = batch()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        token_losses(logits, labels, chunk_tokens=2)
    # the logits themselves and the indices of the targets; autograd's own way keeps log-probabilities as well
    assert sorted(kept, reverse=True)[0] == logits.numel()
    assert sum(kept) < 1.5 * logits.numel()
