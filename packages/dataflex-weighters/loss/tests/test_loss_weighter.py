"""The weighter's window: once a step, over all ranks, resumed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dataflex.components.context import RunContext
from dataflex.components.weight_context import StepLosses, WeightContext, WeightedStep
from dataflex.spec import Kind, Need
from dataflex_weighters_loss.params import LossWeighterParams, Statistics, Strategy
from dataflex_weighters_loss.plugin import dataflex_components
from dataflex_weighters_loss.weighter import LossWeighter

RUN = RunContext(dataset=[], data_collator=list)  # type: ignore[arg-type]
NOW = WeightContext(step=0, tokens_B=torch.ones(4), model=None, inputs={})


def step(number: int, losses: list[float]) -> WeightedStep:
    ones = np.ones(len(losses))
    return WeightedStep(step=number, losses=np.array(losses), tokens=ones, weights=ones)


def weighter(**params: object) -> LossWeighter:
    return LossWeighter(LossWeighterParams(**params), RUN)  # type: ignore[arg-type]


def test_the_first_step_is_uniform_and_the_next_one_knows_its_losses() -> None:
    subject = weighter(strategy=Strategy.LINUPPER)
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert subject.weights(losses, NOW).tolist() == [1, 1, 1, 1]
    subject.on_step(step(1, [1.0, 2.0, 3.0, 4.0]))
    assert subject.weights(losses, NOW).tolist() == pytest.approx([0.1305, 0.6907, 1.5894, 1.5894], abs=1e-4)


def whole(number: int, losses: list[float]) -> StepLosses:
    return StepLosses(step=number, losses=np.array(losses), tokens=np.ones(len(losses)))


# By hand, for losses 1, 2, 3, 4 at r = .4, delta = 1: h = -1, -1/3, 1/3, 1; softmax of f(h)/r, times 4.
BATCH = {
    Strategy.LINUPPER: [0.1305, 0.6907, 1.5894, 1.5894],
    Strategy.QUADRATIC: [0.1955, 1.8045, 1.8045, 0.1955],
    Strategy.EXTREMES: [1.6823, 0.3177, 0.3177, 1.6823],
}
# The mistake: the statistics of micro-batches 1, 2 and 3, 4 (h = -1, 1 in each; softmax of 0, 2.5 times 2).
MICRO_BATCHES = {
    Strategy.LINUPPER: [0.1517, 1.8483, 0.1517, 1.8483],
    Strategy.QUADRATIC: [1.0, 1.0, 1.0, 1.0],
    Strategy.EXTREMES: [1.0, 1.0, 1.0, 1.0],
}


@pytest.mark.parametrize("strategy", list(BATCH))
def test_statistics_of_the_batch_are_those_of_the_whole_step(strategy: Strategy) -> None:
    subject = weighter(strategy=strategy, statistics=Statistics.BATCH)
    assert (subject.statistics, subject.watches_warmup) == ("batch", False)
    subject.on_step(step(1, [7.0, 8.0]))  # what was before does not matter
    subject.on_losses(whole(1, [1.0, 2.0, 3.0, 4.0]))
    parts = [subject.weights(torch.tensor(losses), NOW) for losses in ([1.0, 2.0], [3.0, 4.0])]
    assert torch.cat(parts).tolist() == pytest.approx(BATCH[strategy], abs=1e-4)
    wrong = []
    for losses in ([1.0, 2.0], [3.0, 4.0]):
        subject.on_losses(whole(1, losses))
        wrong += subject.weights(torch.tensor(losses), NOW).tolist()
    assert wrong == pytest.approx(MICRO_BATCHES[strategy], abs=1e-4)


def test_a_loss_of_the_batch_that_is_not_finite_weighs_one_and_moves_no_other() -> None:
    subject = weighter(statistics=Statistics.BATCH)
    subject.on_losses(whole(0, [1.0, 2.0, float("nan"), 3.0, 4.0]))
    found = subject.weights(torch.tensor([1.0, 2.0, float("nan"), 3.0, 4.0]), NOW).tolist()
    assert found == pytest.approx([0.1305, 0.6907, 1.0, 1.5894, 1.5894], abs=1e-4)


def test_a_checkpoint_of_one_kind_of_statistics_is_taken_back_by_the_other() -> None:
    first, second = weighter(), weighter(statistics=Statistics.BATCH)
    first.on_step(step(1, [1.0, 2.0, 3.0, 4.0]))
    second.load_state_dict(first.state_dict())
    first.load_state_dict(weighter(statistics=Statistics.BATCH).state_dict())
    assert first.weights(torch.tensor([1.0, 2.0]), NOW).tolist() == [1, 1]


def test_weights_do_not_change_between_the_micro_batches_of_a_step() -> None:
    subject = weighter()
    subject.on_step(step(1, [1.0, 2.0, 3.0, 4.0]))
    whole = subject.weights(torch.tensor([1.5, 3.5, 9.0, 0.1]), NOW)
    parts = [subject.weights(torch.tensor([loss]), NOW) for loss in (1.5, 3.5, 9.0, 0.1)]
    assert torch.equal(whole, torch.cat(parts))


def test_the_order_of_the_samples_in_a_step_does_not_matter() -> None:
    first, second = weighter(window=3), weighter(window=3)
    for losses, later in (([1.0, 2.0, 3.0, 4.0], [5.0, 0.5]), ([4.0, 2.0, 1.0, 3.0], [0.5, 5.0])):
        subject = first if later[0] == 5.0 else second
        subject.on_step(step(1, losses))
        subject.on_step(step(2, later))
    assert torch.allclose(first.weights(torch.tensor([2.5]), NOW), second.weights(torch.tensor([2.5]), NOW))


def test_losses_that_are_not_finite_stay_out_of_the_window() -> None:
    subject = weighter(strategy=Strategy.EXTREMES)
    subject.on_step(step(1, [1.0, np.nan, 4.0, np.inf]))
    assert subject.state_dict()["values"][:, 0].tolist() == [1.0, 4.0]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_restored_weighter_weighs_bit_for_bit_the_same(strategy: Strategy) -> None:
    draw = np.random.default_rng(0)
    first, second = weighter(strategy=strategy, window=20), weighter(strategy=strategy, window=20)
    for number in range(5):
        first.on_step(step(number, draw.gamma(2.0, size=7).tolist()))
    second.load_state_dict(first.state_dict())
    losses = torch.from_numpy(draw.gamma(2.0, size=9)).float()
    for number in range(5, 9):
        assert torch.equal(first.weights(losses, NOW), second.weights(losses, NOW))
        for subject in (first, second):
            subject.on_step(step(number, [number + 0.5, number / 2]))


def test_the_distribution_offers_one_weighter_that_needs_sample_losses() -> None:
    (spec,) = dataflex_components()
    assert (spec.kind, spec.name, spec.needs) == (Kind.WEIGHTER, "loss", {Need.SAMPLE_LOSSES})
