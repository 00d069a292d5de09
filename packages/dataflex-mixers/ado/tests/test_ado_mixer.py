"""The mixer ado step by step: what it watches, when it fits, what it refuses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataflex.components.mix_context import DomainLosses, MixContext, MixtureView, StepStats
from dataflex.errors import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex_mixers_ado import plugin
from dataflex_mixers_ado.blocks import Blocks
from dataflex_mixers_ado.mixer import AdoMixer
from dataflex_mixers_ado.params import AdoParams, Prior

FIRST = [0.6, 0.3, 0.1]
SOON = {"block_steps": 1, "ignore_steps": 5, "first_fit": 30, "refit_steps": 10}
LAWS = np.array([[10, 1.8, 0.30], [20, 2.0, 0.45], [3, 1.7, 0.10]])
BATCH = 256


def mixer(tokens: Any = None, **params: Any) -> AdoMixer:
    view = MixtureView(("web", "code", "chat"), [10, 10, 10], FIRST, tokens=tokens)
    context = MixContext(dataset=range(30), data_collator=list, mixture=view, global_batch=BATCH)
    return AdoMixer(AdoParams(**{**SOON, **params}), context)


def stats(step: int, losses: Any, samples: Any = (8, 6, 2)) -> StepStats:
    counts = np.array(samples)
    sums = np.where(counts > 0, np.array(losses) * counts * 10, 0.0)
    return StepStats(step, DomainLosses(sums, counts * 10, counts), np.zeros(len(counts)))


def at(step: int) -> np.ndarray:
    """Losses that follow the laws."""
    found: np.ndarray = LAWS[:, 1] + LAWS[:, 0] * (BATCH * step) ** -LAWS[:, 2]
    return found


def run(component: AdoMixer, steps: range) -> None:
    for step in steps:
        component.on_step(stats(step, at(step)))


def mix(component: AdoMixer, step: int) -> list[float]:
    return component.mix(None, step).tolist()  # type: ignore[arg-type]


def test_before_the_first_fit_the_first_proportions_hold() -> None:
    component = mixer()
    run(component, range(11, 40))  # 29 steps past a warm-up of 10
    assert mix(component, 39) == pytest.approx(FIRST)
    assert component.recent.tolist() != FIRST
    run(component, range(40, 41))
    assert mix(component, 40) != pytest.approx(FIRST)


def test_the_laws_are_those_of_the_losses_by_the_samples_of_the_whole_run() -> None:
    component = mixer()
    run(component, range(11, 41))
    assert component.laws == pytest.approx(LAWS, rel=1e-3)


def test_shares_averages_and_proportions_move_as_the_formulas_say() -> None:
    component = mixer()
    recent, average = np.array(FIRST), np.array(FIRST)
    for step in range(11, 50):
        component.on_step(stats(step, at(step)))
        recent = 0.9 * recent + 0.1 * np.array([0.5, 0.375, 0.125])
        rho = average
        if step >= 40:
            factors, _, exponents = LAWS.T
            weights = np.array(FIRST) * np.sqrt(recent) * exponents * factors * (BATCH * step) ** -exponents
            rho = np.maximum(weights / weights.sum(), 0.01)
            rho /= rho.sum()
        proportions = 0.1 * rho + 0.9 * average
        average = average + (rho - average) / (step + 1)
        assert component.recent == pytest.approx(recent)
        assert mix(component, step) == pytest.approx(proportions, rel=1e-4)


def test_laws_are_fitted_anew_only_every_so_many_steps() -> None:
    component = mixer()
    seen = []
    for step in range(1, 52):
        component.on_step(stats(step, at(step) * (1 + 0.1 * np.sin(step))))
        seen.append(component.laws.copy())
    changes = [step + 1 for step in range(1, 51) if not np.array_equal(seen[step], seen[step - 1], equal_nan=True)]
    assert changes == [30, 40, 50]


def test_a_domain_that_is_rarely_seen_gets_no_law_and_the_mean_speed_of_the_others() -> None:
    component = mixer()
    for step in range(1, 31):
        component.on_step(stats(step, at(step), (8, 6, 2 if step % 5 == 0 else 0)))
    assert np.isnan(component.laws[2]).all() and np.isfinite(component.laws[:2]).all()
    assert min(mix(component, 30)) > 0
    reported = component.metrics()
    assert reported["loss_floors"][2] is None and sum(reported["learning_speeds"]) == pytest.approx(1)


def test_a_block_is_the_mean_over_the_steps_that_had_the_domain_and_stands_in_their_middle() -> None:
    blocks = Blocks(2, 4, 3)
    for step in range(11, 24):  # 13 steps past a warm-up of 10: 3 ignored, two blocks of 4, 2 left over
        blocks.add(np.array([float(step), float(step) if step in (14, 16) else np.nan]), step)
    steps, means = blocks.points()
    assert steps.tolist() == [15.5, 19.5]
    assert means[:, 0].tolist() == [15.5, 19.5]
    assert means[0, 1] == 15 and np.isnan(means[1, 1])


def test_the_state_of_a_long_run_takes_half_a_megabyte() -> None:
    blocks = Blocks(22, 10, 0)
    blocks.load_state_dict({**blocks.state_dict(), "means": np.zeros((6000, 22))})
    assert sum(np.asarray(value).nbytes for value in blocks.state_dict().values()) < 0.55e6


def test_losses_that_are_no_numbers_are_left_out() -> None:
    component = mixer()
    for step in range(1, 31):
        component.on_step(stats(step, [np.nan, *at(step)[1:]]))
    assert np.isnan(component.laws[0]).all() and np.isfinite(mix(component, 30)).all()


def test_the_prior_may_be_the_tokens_while_the_first_proportions_hold_until_the_fit() -> None:
    component = mixer([100, 100, 200], prior=Prior.TOKENS)
    run(component, range(1, 30))
    assert mix(component, 29) == pytest.approx(FIRST)
    other = mixer()
    run(other, range(1, 30))
    for each in (component, other):
        run(each, range(30, 32))
    assert mix(component, 31)[2] > mix(other, 31)[2]
    with pytest.raises(ConfigError, match="prior: tokens of mixer 'ado' needs rows whose tokens are known"):
        mixer(prior=Prior.TOKENS)


@pytest.mark.parametrize(("ignored", "first"), [(1000, 1000), (500, 600), (0, 199)])
def test_a_first_fit_to_fewer_than_twenty_blocks_is_refused_as_the_released_code_does_not(
    ignored: int, first: int
) -> None:
    with pytest.raises(ConfigError, match=rf"first_fit: {first} .*Set first_fit to {ignored + 200} or more"):
        AdoParams(ignore_steps=ignored, first_fit=first)


def facts(steps: Steps) -> RunFacts:
    return RunFacts(
        train_type=TrainType.MIX,
        stage="sft",
        component=plugin.dataflex_components()[0],
        dist="dataflex-mixers-ado",
        version="0.1.0",
        params={"first_fit": 1000},
        steps=steps,
        output_dir=Path("out"),
        arguments={"dataset": "a,b"},
        source="run.yaml",
    )


def test_a_run_that_ends_before_the_first_fit_is_refused_before_anything_loads() -> None:
    (problem,) = plugin.dataflex_check_run(facts(Steps(warmup=100, update=50, times=10)))
    assert "first_fit: 1000 of mixer 'ado' (from run.yaml) is past the end: the run has 500 steps" in problem.message
    (problem,) = plugin.dataflex_check_run(facts(Steps(warmup=100, update=50, times=100, train=1000)))
    assert "900 steps past its warm-up" in problem.message
    for enough in (Steps(warmup=100, update=50, times=20), Steps(warmup=0, update=50, times=-1)):
        assert plugin.dataflex_check_run(facts(enough)) == []


def test_a_run_that_ended_without_a_law_says_so(caplog: pytest.LogCaptureFixture) -> None:
    component = mixer()
    with caplog.at_level(logging.WARNING, logger="dataflex"):
        component.finished(20)
        assert "without a law of any domain" in caplog.text
        caplog.clear()
        run(component, range(1, 31))
        component.finished(30)
    assert caplog.text == ""
