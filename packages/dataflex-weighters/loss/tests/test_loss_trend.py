"""A falling loss does not push the window above every loss there is."""

from __future__ import annotations

import numpy as np
import pytest

from dataflex.components.weight_context import WeightedStep
from dataflex_weighters_loss.params import LossWeighterParams, Strategy
from dataflex_weighters_loss.trend import at_last_step
from dataflex_weighters_loss.weighter import LossWeighter


def test_a_line_is_moved_to_its_last_point() -> None:
    losses = np.array([9.0, 7.0] * 4 + [8.0, 6.0] * 4 + [7.0, 5.0] * 4)  # by hand: the mean falls by 1 a step
    assert at_last_step(losses, np.array([8, 8, 8])).tolist() == pytest.approx([7.0, 5.0] * 12)


def test_a_window_without_a_trend_stays_as_it_is() -> None:
    losses = np.array([1.0, 2.0, 3.0, 4.0] * 6)
    assert at_last_step(losses, np.full(6, 4)).tolist() == pytest.approx(losses.tolist())


@pytest.mark.parametrize(("losses", "lengths"), [([1.0, 2.0, 3.0, 4.0] * 8, [32]), ([5.0, 1.0] * 7, [7, 7]), ([], [])])
def test_one_step_or_a_handful_of_losses_has_no_trend(losses: list[float], lengths: list[int]) -> None:
    assert at_last_step(np.array(losses), np.array(lengths, dtype=np.int64)).tolist() == losses


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize(("strategy", "share"), [(Strategy.CVAR, 0.3), (Strategy.TRIM, 0.7)])
def test_a_cut_keeps_its_share_of_the_samples_while_the_loss_falls(strategy: Strategy, share: float, size: int) -> None:
    import torch

    draw, subject = np.random.default_rng(0), LossWeighter(LossWeighterParams(strategy=strategy), None)  # type: ignore[arg-type]
    kept = []
    for number in range(400 // size):
        losses = 6.0 - 0.004 * number * size + draw.normal(0, 0.2, size)
        weights = subject.weights(torch.from_numpy(losses), None)  # type: ignore[arg-type]
        ones = np.ones(size)
        subject.on_step(WeightedStep(step=number, losses=losses, tokens=ones, weights=ones))
        kept.extend((weights > 0).tolist()[: size * (number * size >= 64)])
    assert np.mean(kept) == pytest.approx(share, abs=0.08)
