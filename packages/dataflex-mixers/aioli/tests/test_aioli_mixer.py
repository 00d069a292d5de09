"""The mixer aioli: its arithmetic with numbers worked out by hand, its turns, and what it refuses."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.components.mix_context import EvaluatedRows, MixContext, MixtureView
from dataflex.errors import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex_mixers_aioli import plugin
from dataflex_mixers_aioli.matrix import Floats, influence, shares_of_influence, turns, updated
from dataflex_mixers_aioli.mixer import AioliMixer
from dataflex_mixers_aioli.params import AioliParams, Prior

NAMES = ("web", "code", "chat")
TRUE = np.array([[0.10, 0.02, 0.0], [0.01, 0.06, 0.01], [0.0, 0.03, 0.20]])
EVEN = np.full(3, 1 / 3)
FOUND = [0.30658, 0.30658, 0.38685]


class World:
    """Losses that fall by the true influence of the shares that were trained on."""

    def __init__(self, names: tuple[str, ...] = NAMES, first: Any = EVEN, seed: int = 0, **params: Any) -> None:
        self.losses, self.true = dict.fromkeys(names, 5.0), TRUE.copy()
        self.asked: list[tuple[str, int | None, str]] = []
        self.view = MixtureView(names, [10] * len(names), first)
        context = MixContext(
            dataset=range(30), data_collator=list, mixture=self.view, evaluator=self._evaluate, seed=seed
        )
        self.mixer = AioliMixer(AioliParams(**{"round_steps": 100, "rounds": 2, "eta": 1.0, **params}), context)

    def _evaluate(self, name: str, most: int | None, rows: EvaluatedRows) -> float:
        self.asked.append((name, most, str(rows)))
        return self.losses[name]

    def boundary(self, step: int) -> list[float]:
        """Ask for a mixture, and train on it up to the next boundary."""
        shares = self.mixer.mix(None, step)  # type: ignore[arg-type]
        for name, fall in zip(NAMES, self.true @ shares, strict=True):
            self.losses[name] -= float(fall)
        return shares.tolist()  # type: ignore[no-any-return]


def swept(**params: Any) -> tuple[World, list[list[float]]]:
    """A world after one sweep of six turns, a boundary every ten steps."""
    world = World(**params)
    return world, [world.boundary(10 * turn) for turn in range(7)]


def test_the_update_is_that_of_the_worked_example() -> None:
    mixtures = turns(3, 0.625)
    assert mixtures.tolist() == [[0.625, 0.1875, 0.1875], [0.1875, 0.625, 0.1875], [0.1875, 0.1875, 0.625]]
    shares = shares_of_influence(influence(TRUE @ mixtures.T, mixtures))
    assert shares == pytest.approx([0.255814, 0.255814, 0.488372], abs=1e-6)
    assert shares is not None and updated(EVEN, shares, 1.0) == pytest.approx(FOUND, abs=1e-5)


def test_wrong_versions_of_the_update_give_other_proportions() -> None:
    drops = TRUE @ turns(3, 0.625).T
    unsolved = updated(EVEN, drops.sum(axis=0) / drops.sum(), 1.0)
    rows = updated(EVEN, TRUE.sum(axis=1) / TRUE.sum(), 1.0)
    assert unsolved == pytest.approx([0.322, 0.322, 0.356], abs=1e-3)
    assert rows == pytest.approx([0.312, 0.285, 0.403], abs=1e-3)
    for wrong in (unsolved, rows):
        assert np.abs(wrong - FOUND).max() > 0.01


def test_the_least_entry_is_taken_off_all_where_clipping_each_hides_it() -> None:
    harmful = TRUE.copy()
    harmful[0, 2] = -0.02
    shares = shares_of_influence(harmful)
    assert shares is not None and updated(EVEN, shares, 1.0) == pytest.approx([0.318, 0.318, 0.364], abs=1e-3)
    clipped = np.maximum(harmful, 0)
    wrong = updated(EVEN, clipped.sum(axis=0) / clipped.sum(), 1.0)
    assert wrong == pytest.approx([0.307, 0.307, 0.387], abs=1e-3)


def test_a_sweep_gives_each_domain_its_turns_and_finds_the_true_influence() -> None:
    world, mixtures = swept()
    for half in (mixtures[:3], mixtures[3:6]):
        assert sorted(np.argmax(mixture) for mixture in half) == [0, 1, 2]
        assert all(sorted(mixture) == [0.1875, 0.1875, 0.625] for mixture in half)
    assert mixtures[6] == pytest.approx(FOUND, abs=1e-5)
    assert world.mixer.metrics()["influence"] == pytest.approx([0.255814, 0.255814, 0.488372], abs=1e-6)


def test_between_two_sweeps_the_proportions_hold_and_nothing_is_evaluated() -> None:
    world, mixtures = swept()
    evaluated = len(world.asked)
    for step in (70, 80, 90):
        assert world.boundary(step) == mixtures[6]
    assert len(world.asked) == evaluated == 7 * 3
    assert max(world.boundary(100)) == 0.625  # the next round begins
    for step in range(110, 160, 10):
        world.boundary(step)
    again = updated(np.array(mixtures[6]), np.array([0.255814, 0.255814, 0.488372]), 1.0)
    assert world.boundary(160) == pytest.approx(again, abs=1e-5)


def test_losses_are_measured_on_the_same_rows_at_each_turn() -> None:
    world, _ = swept(max_samples=64)
    assert {(most, rows) for _, most, rows in world.asked} == {(64, "fixed")}


def test_the_first_update_starts_from_the_run_s_proportions_and_with_prior_uniform_from_uniform_ones() -> None:
    first = [0.5, 0.3, 0.2]
    _, mixtures = swept(first=first)
    shares = np.array([0.255814, 0.255814, 0.488372])
    assert mixtures[6] == pytest.approx(updated(np.array(first), shares, 1.0), abs=1e-5)
    _, mixtures = swept(first=first, prior=Prior.UNIFORM)
    assert mixtures[6] == pytest.approx(FOUND, abs=1e-5)


def test_earlier_sweeps_count_by_their_share() -> None:
    world, mixtures = swept(ema=0.75)
    world.true[0, 0] = 0.5
    for step in range(100, 160, 10):
        world.boundary(step)
    found = world.boundary(160)
    mean = TRUE.copy()
    mean[0, 0] = 0.75 * 0.10 + 0.25 * 0.5
    shares = shares_of_influence(mean)
    assert shares is not None and found == pytest.approx(updated(np.array(mixtures[6]), shares, 1.0), abs=1e-5)


def test_the_order_of_turns_depends_on_seed_and_step_but_not_on_the_order_of_domains() -> None:
    def order(names: tuple[str, ...], seed: int) -> list[str]:
        world = World(names, seed=seed)
        return [names[int(np.argmax(world.mixer.mix(None, 10 * turn)))] for turn in range(6)]  # type: ignore[arg-type]

    assert order(NAMES, 3) == order(NAMES[::-1], 3)
    assert len({tuple(order(NAMES, seed)) for seed in range(8)}) > 3
    assert any(order(NAMES, seed)[:3] != order(NAMES, seed)[3:] for seed in range(8))


@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_a_sweep_that_measured_nothing_leaves_the_proportions_with_a_warning(
    broken: float, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(first=[0.5, 0.3, 0.2])
    world.losses["code"] = broken
    with caplog.at_level(logging.WARNING, logger="dataflex"):
        for turn in range(7):
            if broken == 0:  # the same losses at each turn
                world.losses = dict.fromkeys(NAMES, 1.0)
            found = world.boundary(10 * turn)
    assert found == [0.5, 0.3, 0.2]
    assert "the sweep of mixer 'aioli' that ended at step 60" in caplog.text


@given(
    st.integers(2, 7).flatmap(
        lambda k: st.lists(st.lists(st.floats(-1, 1), min_size=k, max_size=k), min_size=1, max_size=7)
    ),
    st.floats(0, 10),
)
def test_updates_are_mixtures_that_follow_the_influence(entries: list[list[float]], eta: float) -> None:
    shares = shares_of_influence(np.array(entries))
    if shares is None:
        assert np.ptp(entries) == 0 or np.sum(np.array(entries) - np.min(entries)) <= 0
        return
    even = np.full(len(shares), 1 / len(shares))
    found = updated(even, shares, eta)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    assert (np.diff(found[np.argsort(shares)]) >= -1e-12).all()


def test_a_turn_solves_back_to_the_influence_for_any_number_of_losses() -> None:
    true = np.random.default_rng(0).normal(size=(2, 5))
    mixtures: Floats = turns(5, 0.7)
    assert influence(true @ mixtures.T, mixtures) == pytest.approx(true)


@pytest.mark.parametrize(
    ("names", "params", "message"),
    [
        (("web",), {}, "compares domains, and this run has one"),
        (tuple(f"d{k}" for k in range(8)), {}, "more than 7 domains, and this run has 8"),
        (("web", "code"), {"hot": 0.5}, "hot: 0.5 .* so all turns would be alike"),
        (NAMES, {"targets": ["dev"]}, "mixer aioli aims at an eval set and the run has none"),
    ],
)
def test_runs_that_a_sweep_says_nothing_about_are_refused(
    names: tuple[str, ...], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        World(names, np.full(len(names), 1 / len(names)), **params)


def test_more_than_seven_domains_can_be_forced() -> None:
    names = tuple(f"d{k}" for k in range(8))
    World(names, np.full(8, 1 / 8), force=True)


def test_a_round_that_its_sweep_fills_is_refused_after_the_first_turn() -> None:
    world = World(round_steps=60)
    world.boundary(0)
    with pytest.raises(ConfigError, match=r"round_steps: 60 .* is no longer than its sweep of 60 steps"):
        world.boundary(10)


def facts(*, steps: Steps | None = None, dataset: Any = "a,b,c", arguments: Any = None, **params: Any) -> RunFacts:
    defaults = {"round_steps": 200, "rounds": 4, "hot": 0.625, "force": False, "targets": None}
    return RunFacts(
        train_type=TrainType.MIX,
        stage="sft",
        component=plugin.dataflex_components()[0],
        dist="dataflex-mixers-aioli",
        version="0.1.0",
        params={**defaults, **params},
        steps=steps or Steps(warmup=10, update=10, times=100),
        output_dir=Path("out"),
        arguments={"dataset": dataset, **(arguments or {})},
        source="run.yaml",
    )


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (facts(round_steps=120), "round_steps: 120 .* 4 of 3 domains, 10 steps each: 120 steps"),
        (facts(steps=Steps(warmup=10, update=10, times=12)), "the run has 120 steps past .* and the first sweep"),
        (facts(steps=Steps(warmup=10, update=10, times=99, train=100)), "the run has 90 steps past its warm-up"),
        (facts(dataset=[f"d{k}" for k in range(9)]), "this run has 9"),
        (
            facts(targets=["dev"], arguments={"eval_dataset": "val"}),
            r"component_params.targets \(from run.yaml\) names dev, which eval_dataset",
        ),
    ],
)  # fmt: skip
def test_steps_domains_and_targets_are_checked_before_anything_loads(run: RunFacts, message: str) -> None:
    (problem,) = plugin.dataflex_check_run(run)
    assert re.search(message, problem.message)


def test_a_run_that_fits_passes() -> None:
    assert plugin.dataflex_check_run(facts()) == []
    assert plugin.dataflex_check_run(facts(dataset=["a"] * 9, force=True, round_steps=1000)) == []


def test_a_sweep_does_not_go_on_with_other_targets() -> None:
    world, _ = swept()
    state = world.mixer.state_dict()
    with pytest.raises(ConfigError, match="has measured the losses of dev up to the checkpoint"):
        world.mixer.load_state_dict({**state, "measured": ["dev"]})
