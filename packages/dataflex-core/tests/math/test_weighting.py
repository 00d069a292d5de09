"""The weighted reduction and the window behind its normaliser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.weighting import effective_samples, token_mean_weight, weighted_loss
from dataflex.math.window import StepWindow


def test_the_weighted_loss_by_hand() -> None:
    # (2/1.25 * 6 + 0.5/1.25 * 10) / 8 = (9.6 + 4) / 8
    sums = torch.tensor([6.0, 10.0], requires_grad=True)
    loss = weighted_loss(sums, torch.tensor([2.0, 0.5]), 1.25, 8)
    assert loss.item() == pytest.approx(1.7)
    loss.backward()
    assert sums.grad.tolist() == pytest.approx([0.2, 0.05])


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    sums, weights = torch.arange(1.0, 9.0), torch.linspace(0, 3, 8)
    parts = sum(weighted_loss(sums[i : i + 2], weights[i : i + 2], 1.3, 20) for i in range(0, 8, 2))
    assert torch.allclose(parts, weighted_loss(sums, weights, 1.3, 20))


def test_the_normaliser_counts_tokens_not_samples() -> None:
    assert token_mean_weight(np.array([2.0, 0.5]), np.array([1.0, 3.0])) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize(("weights", "tokens"), [([], []), ([0.0, 0.0], [3.0, 4.0]), ([1.0], [0.0])])
def test_the_normaliser_is_one_where_there_is_nothing_to_go_by(weights: list[float], tokens: list[float]) -> None:
    assert token_mean_weight(np.array(weights), np.array(tokens)) == 1.0


def test_effective_samples_by_hand() -> None:
    assert effective_samples(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert effective_samples(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_samples(np.array([0.0, 5.0, 0.0])) == pytest.approx(1)
    assert effective_samples(np.zeros(2)) == 0


def test_a_window_keeps_as_few_whole_steps_as_hold_enough_samples() -> None:
    window = StepWindow(3, 1)
    for step in ([[1.0], [2.0]], [[3.0], [4.0]], [[5.0]]):
        window.add_step(step)
    assert window.values.tolist() == [[3.0], [4.0], [5.0]]  # without the first step there are still three
    window.add_step([[6.0], [7.0]])
    assert window.values.tolist() == [[5.0], [6.0], [7.0]]
    window.add_step(np.zeros((0, 1)))
    assert len(window) == 3


@given(st.lists(st.lists(st.floats(0, 9), max_size=5), max_size=8), st.integers(1, 9), st.integers(0, 8))
def test_a_restored_window_goes_on_as_the_first_one(steps: list[list[float]], samples: int, cut: int) -> None:
    whole, first, second = (StepWindow(samples, 1) for _ in range(3))
    for step in steps:
        whole.add_step(step)
    for step in steps[:cut]:
        first.add_step(step)
    second.load_state_dict(first.state_dict())
    for step in steps[cut:]:
        second.add_step(step)
    assert np.array_equal(whole.values, second.values) and len(whole) == len(second)
