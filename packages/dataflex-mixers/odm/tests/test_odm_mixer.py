"""The arithmetic of the mixer odm, with numbers worked out by hand, and what wrong versions of it give."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.components.mix_context import DomainLosses, MixContext, MixtureView, StepStats
from dataflex.errors import ConfigError
from dataflex_mixers_odm.mixer import OdmMixer
from dataflex_mixers_odm.params import OdmParams, Variant
from dataflex_mixers_odm.rules import exploration, paper_proportions, released_proportions

NAMES = ("web", "code", "chat")
SHARES = [0.5, 0.3, 0.2]
RELEASED = [0.37601, 0.32194, 0.30205]
PAPER = [0.33352, 0.33462, 0.33186]


def mixer(shares: list[float] | None = None, **params: Any) -> OdmMixer:
    given_shares = SHARES if shares is None else shares
    names = [NAMES[k] if k < len(NAMES) else f"d{k}" for k in range(len(given_shares))]
    view = MixtureView(names, [10] * len(names), given_shares)
    context = MixContext(dataset=range(10 * len(names)), data_collator=list, mixture=view)
    return OdmMixer(OdmParams(**params), context)


def stats(step: int, losses: Any, tokens: Any = None) -> StepStats:
    """A step whose domains have these mean losses; those without a token have none."""
    counts = np.full(len(losses), 4) if tokens is None else np.array(tokens)
    sums = np.where(counts > 0, np.array(losses) * counts, 0.0)
    return StepStats(step, DomainLosses(sums, counts, (counts > 0).astype(np.int64)), np.zeros(len(losses)))


def mix(component: OdmMixer, step: int) -> list[float]:
    return component.mix(None, step).tolist()  # type: ignore[arg-type]


def after(steps: int, losses: list[float], **params: Any) -> list[float]:
    """Proportions after so many steps with the same losses, the mixer being asked every ten steps."""
    component = mixer([1 / len(losses)] * len(losses), **params)
    for step in range(1, steps + 1):
        component.on_step(stats(step, losses))
        if step % 10 == 0:
            component.context.mixture.update(proportions=mix(component, step))
    return mix(component, steps)


def one_update(variant: Variant) -> list[float]:
    component = mixer(variant=variant)
    component.rewards = np.full(3, 6.0)
    component.on_step(stats(100, [3.0, 2.0, 1.0]))
    return mix(component, 100)


def test_one_update_gives_the_numbers_of_the_released_rule() -> None:
    assert one_update(Variant.RELEASED) == pytest.approx(RELEASED, abs=1e-5)


def test_one_update_gives_the_numbers_of_the_paper() -> None:
    assert one_update(Variant.PAPER) == pytest.approx(PAPER, abs=1e-5)


def test_released_is_the_default() -> None:
    assert OdmParams().variant is Variant.RELEASED


def test_an_update_with_one_arm_and_a_scale_of_15_as_in_1x_gives_another_mixture() -> None:
    least = 0.06052
    rewards = np.array([0.9 * 6 + 0.1 * 15 * 3 / 0.5, 6, 6])
    scores = np.exp(0.060820 * (rewards - rewards.max()))
    wrong = (1 - 3 * least) * scores / scores.sum() + least
    assert wrong == pytest.approx([0.43255, 0.28372, 0.28372], abs=2e-5)
    for variant in Variant:
        assert np.abs(np.array(one_update(variant)) - wrong).max() > 0.03


def test_steady_losses_lead_the_released_rule_to_the_softmax_of_the_losses() -> None:
    rewards = np.exp([3.0, 2.0, 1.0])
    assert released_proportions(rewards, 10**9) == pytest.approx([0.665, 0.245, 0.090], abs=1e-3)


@pytest.mark.parametrize(("step", "expected"), [(100, [0.371, 0.334, 0.295]), (100_000, [0.335, 0.333, 0.332])])
def test_steady_losses_lead_the_paper_s_rule_back_to_uniform(step: int, expected: list[float]) -> None:
    shares = np.full(3, 1 / 3)
    for _ in range(200):  # where the rewards L / pi and the proportions that they give agree
        shares = paper_proportions(np.array([3.0, 2.0, 1.0]) / shares, step)
    assert shares == pytest.approx(expected, abs=2e-3)


def test_a_floor_of_the_exploration_as_in_1x_freezes_the_paper_s_rule() -> None:
    shares, least = np.full(3, 1 / 3), 0.03
    for _ in range(2000):
        scores = least * 15 * np.array([3.0, 2.0, 1.0]) / shares
        weights = np.exp(scores - scores.max())
        shares = 0.98 * shares + 0.02 * ((1 - 3 * least) * weights / weights.sum() + least)
    assert shares == pytest.approx([0.452, 0.337, 0.211], abs=2e-3)
    assert after(400, [3.0, 2.0, 1.0], variant=Variant.PAPER)[0] < 0.40


def test_the_paper_s_rule_moves_by_the_loss_over_the_proportion_in_force_times_the_scale() -> None:
    component = mixer(variant=Variant.PAPER, reward_scale=2.0, smoothing=0.5)
    component.rewards = np.full(3, 6.0)
    component.on_step(stats(7, [3.0, 2.4, 1.0]))
    assert component.rewards.tolist() == pytest.approx([9.0, 11.0, 8.0])  # .5 * 6 + .5 * 2 * (6, 8, 5)


def test_many_domains_are_uniform_until_more_than_k_ln_k_steps() -> None:
    assert exploration(68, 22) == 1 / 22 > exploration(69, 22)
    for variant in Variant:
        losses = np.linspace(1, 5, 22).tolist()
        assert after(60, losses, variant=variant) == pytest.approx([1 / 22] * 22)


def test_domains_beyond_33_still_move_which_a_least_exploration_of_03_forbids() -> None:
    shares = after(1000, np.linspace(1, 5, 40).tolist())
    assert shares[-1] > 3 * shares[0]
    assert 1 - 0.03 * 40 < 0  # the share that 1.x leaves to the rewards


def test_the_mean_of_the_step_is_exponentiated_not_those_of_its_micro_batches() -> None:
    component = mixer([0.5, 0.5], smoothing=0.0)
    halves = DomainLosses(np.array([4.0, 4.0]), np.array([4, 4]), np.array([1, 1])) + DomainLosses(
        np.array([20.0, 4.0]), np.array([4, 4]), np.array([1, 1])
    )
    component.on_step(StepStats(1, halves, np.zeros(2)))
    assert component.rewards[0] == pytest.approx(20.1, abs=0.05)
    assert (math.exp(1) + math.exp(5)) / 2 == pytest.approx(75.6, abs=0.05)  # the wrong one


def test_a_domain_that_was_never_seen_counts_as_the_mean_of_the_others() -> None:
    rewards = np.array([6.0, 8.0, np.nan])
    shares = released_proportions(rewards, 100)
    assert shares[2] == pytest.approx(1 / 3, abs=0.01)
    wrong = (1 - 3 * exploration(100, 3)) * np.array([6.0, 8.0, 0.0]) / 14 + exploration(100, 3)
    assert wrong[2] == pytest.approx(0.0605, abs=1e-4)


def test_a_domain_seen_late_starts_at_the_mean_of_the_others_and_is_then_updated_as_any() -> None:
    component = mixer()
    component.on_step(stats(1, [math.log(6), math.log(8), 0.0], tokens=[4, 4, 0]))
    assert component.rewards.tolist() == pytest.approx([6, 8, math.nan], nan_ok=True)
    component.on_step(stats(2, [0, 0, math.log(27)], tokens=[0, 0, 4]))
    assert component.rewards.tolist() == pytest.approx([6, 8, 0.9 * 7 + 0.1 * 27])


def test_the_proportions_in_force_stay_while_nothing_was_seen() -> None:
    assert mix(mixer(), 5) == SHARES


def test_equal_losses_give_uniform_proportions_whatever_stands_first() -> None:
    assert after(200, [2.0, 2.0, 2.0]) == pytest.approx([1 / 3] * 3)


def test_losses_are_cut_before_they_are_exponentiated() -> None:
    component = mixer(most_loss=3.0)
    component.on_step(stats(1, [50.0, 3.0, 1.0]))
    assert component.rewards[0] == component.rewards[1] == pytest.approx(math.exp(3))


def test_a_domain_whose_loss_is_no_number_keeps_its_reward() -> None:
    component = mixer()
    component.on_step(stats(1, [2.0, 2.0, 2.0]))
    before = component.rewards.copy()
    component.on_step(stats(2, [math.nan, 2.0, math.inf]))
    assert component.rewards.tolist() == pytest.approx(before.tolist())


def test_a_single_domain_gets_everything() -> None:
    assert after(20, [2.0]) == [1.0]
    assert after(20, [2.0], variant=Variant.PAPER) == [1.0]


def test_the_floor_is_that_of_the_formula_and_is_refused_above_one_in_all() -> None:
    assert after(200, [9.0, 1.0, 1.0], floor=0.2) == pytest.approx(
        [0.2 + 0.4 * share for share in after(200, [9.0, 1.0, 1.0])]
    )
    with pytest.raises(ConfigError, match=r"floor: 0.5 .* for 3 domains adds up to more than 1. Set it to 0.333"):
        mixer(floor=0.5)


@given(st.lists(st.floats(0.0, 15.0), min_size=2, max_size=8), st.integers(0, 100_000), st.sampled_from(list(Variant)))
def test_proportions_are_a_mixture_above_the_exploration_that_follows_the_losses(
    losses: list[float], step: int, variant: Variant
) -> None:
    component = mixer([1 / len(losses)] * len(losses), variant=variant)
    component.on_step(stats(step, losses))
    shares = mix(component, step)
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    assert min(shares) >= exploration(step, len(losses)) - 1e-9
    for first, second in zip(np.argsort(losses)[:-1], np.argsort(losses)[1:], strict=True):
        assert shares[first] <= shares[second] + 1e-9
    turned = mixer([1 / len(losses)] * len(losses), variant=variant)
    turned.on_step(stats(step, losses[::-1]))
    assert mix(turned, step)[::-1] == pytest.approx(shares, abs=1e-12)


def test_boundaries_near_each_other_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    component = mixer()
    with caplog.at_level(logging.WARNING, logger="dataflex"):
        for step in (10, 20, 30):
            mix(component, step)
        assert caplog.text == ""
        for step in (35, 40):
            mix(component, step)
    assert caplog.text.count("asked every 5 steps") == 1
