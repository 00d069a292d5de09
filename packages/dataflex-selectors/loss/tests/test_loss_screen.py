"""Screening: which rows are scored exactly, what is recorded, and that neither a kill nor a rank more changes that."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gloo import run_on_two_ranks
from loss_cases import Pad, ragged_pool, tiny_qwen
from screen_runs import BATCH, BOUNDARIES, ROWS, UPDATE, decisions, parameters, plan, pool, train_on_a_rank, trainer

from dataflex.components.screen_params import ScreenParams
from dataflex.errors import ComponentError, ConfigError
from dataflex.testing import make_context
from dataflex_selectors_loss.params import LossParams
from dataflex_selectors_loss.selector import LossSelector

LENGTHS = np.array([len(row["input_ids"]) for row in pool()], np.float64)
CHOSEN = UPDATE * BATCH


def survivors_by_length(count: int) -> set[int]:
    """By sorting: most tokens first, ties by row, every seventh row (which has no score) last."""
    rows = sorted(range(ROWS), key=lambda row: (row % 7 == 0, -LENGTHS[row], row))
    return set(rows[:count])


def test_the_rows_of_highest_score_survive_and_only_they_are_chosen(tmp_path: Path) -> None:
    made = trainer(tmp_path, {"name": "longest", "survivors": 20, "agreement": 16})
    made.train()
    survivors = survivors_by_length(20)
    for step, metrics in zip(BOUNDARIES, decisions(tmp_path), strict=True):
        assert set(plan(tmp_path, step)) <= survivors
        assert metrics["screen_candidates"] == ROWS
        assert metrics["screen_survivors"] == 20
        assert 20 < metrics["scored"] <= 36
        assert metrics["screen_without_score"] == 0
    assert (tmp_path / "out" / "cache").exists() is False  # the screen kept nothing


def test_rows_without_a_score_come_last(tmp_path: Path) -> None:
    made = trainer(tmp_path, {"name": "longest", "survivors": ROWS - 2, "agreement": 0})
    made.train()
    (first, *_) = decisions(tmp_path)
    assert first["screen_without_score"] == len(range(0, ROWS, 7)) - 2
    assert first["scored"] == ROWS - 2


@pytest.mark.parametrize(("every", "asked"), [(0, [2]), (1, [2, 5, 8]), (2, [2, 8]), (7, [2])])
def test_a_screen_scores_once_or_at_every_nth_boundary(tmp_path: Path, every: int, asked: list[int]) -> None:
    made = trainer(tmp_path, {"name": "rising", "survivors": 20, "every": every, "agreement": 0})
    made.train()
    assert made.parts.screen.asking.component.asked == asked
    assert [bool(metrics["screen_scored"]) for metrics in decisions(tmp_path)] == [step in asked for step in BOUNDARIES]
    for step in BOUNDARIES:
        times = max(index for index, earlier in enumerate(asked, 1) if earlier <= step)
        order = np.argsort(-np.roll(np.arange(ROWS), 17 * times), kind="stable")
        assert set(plan(tmp_path, step)) <= set(order[:20].tolist())


@pytest.mark.parametrize("every", [0, 2])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, every: int) -> None:
    screen = {"name": "rising", "survivors": 24, "every": every, "agreement": 20}
    whole = trainer(tmp_path / "whole", screen)
    whole.train()
    trainer(tmp_path / "cut", screen, save_strategy="steps", save_steps=4).train()
    checkpoint = tmp_path / "cut" / "out" / "checkpoint-4"
    resumed = trainer(tmp_path / "cut", screen)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert bool((parameters(whole.model) == parameters(resumed.model)).all())
    for step in BOUNDARIES:
        assert plan(tmp_path / "whole", step) == plan(tmp_path / "cut", step)
    screens = [made.parts.screen.asking.component for made in (whole, resumed)]
    assert screens[0].asked == screens[1].asked
    assert [screen.begun for screen in screens] == [1, 1]
    assert [screen.heard for screen in screens] == [11 * BATCH] * 2


def test_two_ranks_choose_as_one_does_and_go_on_after_a_kill(tmp_path: Path) -> None:
    run_on_two_ranks(train_on_a_rank, tmp_path)
    screen = {"name": "same", "survivors": 30, "every": 2, "agreement": 20}
    one = trainer(tmp_path / "one", screen)
    one.train()
    for step in BOUNDARIES:
        assert plan(tmp_path, step) == plan(tmp_path / "one", step) == plan(tmp_path / "again", step)
    ours, theirs = decisions(tmp_path / "one")[0], decisions(tmp_path)[0]
    assert ours["screen_agreement"] == pytest.approx(theirs["screen_agreement"])
    assert np.load(tmp_path / "two.npy") == pytest.approx(parameters(one.model).numpy(), abs=1e-5)
    assert np.array_equal(np.load(tmp_path / "resumed.npy"), np.load(tmp_path / "two.npy"))


def test_a_screen_of_the_very_score_agrees_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        trainer(tmp_path, {"name": "same", "survivors": 30, "every": 1}).train()
    assert all(metrics["screen_agreement"] > 0.9 for metrics in decisions(tmp_path))
    assert "agree little" not in caplog.text


def test_a_screen_of_random_scores_agrees_with_nothing_and_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        trainer(tmp_path, {"name": "noise", "survivors": 30, "agreement": 100}).train()
    assert abs(decisions(tmp_path)[0]["screen_agreement"]) < 0.3
    assert "screen noise of selector loss: its scores and the exact ones agree little" in caplog.text


@pytest.mark.parametrize("agreement", [0, 15])
def test_fewer_than_16_rows_are_not_reported(tmp_path: Path, agreement: int) -> None:
    trainer(tmp_path, {"name": "same", "survivors": 30, "agreement": agreement}).train()
    assert all("screen_agreement" not in metrics for metrics in decisions(tmp_path))


def test_the_screen_draws_from_a_stream_of_its_own(tmp_path: Path) -> None:
    made = trainer(tmp_path, {"name": "noise", "survivors": 30})
    made.train()
    screen, selector = made.parts.screen.asking.component, made.component
    noise = screen.context.rng(2).random(4)
    assert not np.array_equal(noise, selector.context.rng(2).random(4))
    np.testing.assert_array_equal(noise, selector.context.rng(2, "screen/noise").random(4))
    assert screen.context.cache_dir == selector.context.cache_dir / "screen-noise"
    assert screen.context.cache_dir.parts[-3:] == ("cache", "loss", "screen-noise")


def test_max_candidates_are_drawn_first(tmp_path: Path) -> None:
    screen = {"name": "longest", "survivors": 20, "agreement": 20}
    made = trainer(tmp_path, screen, params={"max_candidates": 40})
    made.train()
    for step, metrics in zip(BOUNDARIES, decisions(tmp_path), strict=True):
        drawn = made.component.context.rng(step).choice(ROWS, size=40, replace=False, shuffle=False)
        order = sorted(drawn.tolist(), key=lambda row: (row % 7 == 0, -LENGTHS[row], row))
        assert set(plan(tmp_path, step)) <= set(order[:20])
        assert metrics["screen_candidates"] == 40
        assert metrics["scored"] <= 40


def test_without_a_screen_the_rows_are_those_of_before(tmp_path: Path) -> None:
    trainer(tmp_path / "none", None).train()
    trainer(tmp_path / "all", {"name": "longest", "survivors": ROWS, "agreement": 0}).train()
    for step in BOUNDARIES:
        assert plan(tmp_path / "none", step) == plan(tmp_path / "all", step)
    first, *others = decisions(tmp_path / "none")
    assert "screen_survivors" not in first
    # 3 boundaries of 120 forward passes, where a training row costs 3: 120 / 2 rows a step
    assert first["selection_steps"] == pytest.approx(60)
    assert first["selection_worth"] == pytest.approx(1 + 60 / 11)
    assert all("selection_steps" not in metrics for metrics in others)


def test_auto_survives_as_many_as_the_run_can_pay_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    screen = {"name": "longest", "survivors": "auto", "worth": 14.0, "agreement": 0}
    with caplog.at_level(logging.INFO, "dataflex"):
        trainer(tmp_path, screen).train()
    # 11 steps of 2 rows, worth 13 more: 286 training rows are 858 forward passes. The screen does not say what it
    # costs, so a pass over 120 rows is taken off: 738, a third at each of 3 boundaries.
    first = decisions(tmp_path)[0]
    assert first["screen_survivors"] == ROWS  # 246 is more than there are
    screen = {"name": "longest", "survivors": "auto", "worth": 4.0, "agreement": 6}
    trainer(tmp_path / "less", screen).train()
    first = decisions(tmp_path / "less")[0]
    assert first["screen_survivors"] == (11 * 2 * 3 * 3 - 120) // 3 - 6
    assert first["selection_steps_allowed"] == pytest.approx(33)
    assert first["selection_steps"] <= 33
    assert "screen longest of selector loss" in caplog.text


def test_auto_without_a_choice_is_refused_before_the_first_step(tmp_path: Path) -> None:
    made = trainer(tmp_path, {"name": "longest", "survivors": "auto", "worth": 2.6, "agreement": 0})
    # (11 x 2 x 1.6 x 3 - 120) / 3 = -4.8
    with pytest.raises(ConfigError, match=r"screen longest of selector loss: screen.survivors: auto comes to 0 rows"):
        made.train()
    assert made.state.global_step == 0


def test_few_survivors_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        trainer(tmp_path, {"name": "longest", "survivors": 2 * CHOSEN - 1}).train()
    assert "the exact score chooses nearly everything it sees" in caplog.text


@pytest.mark.parametrize(
    ("screen", "said"),
    [
        ({"name": "longest", "survivors": CHOSEN - 1}, "survivors: 5 .* cannot fill a stage, which chooses at least 6"),
        ({"name": "longst", "survivors": 20}, "Did you mean 'longest'"),
        ({"name": "random", "survivors": 20}, "does not say that it gives scores"),
        ({"name": "modest", "survivors": 20}, "does not say that it gives scores"),
        ({"name": "aiming", "survivors": 20}, "selector 'aiming' needs an eval set"),
        ({"name": "loss", "params": {"tempo": 1}, "survivors": 20}, "no parameter 'tempo'"),
        (
            {"name": "loss", "survivors": 20, "params": {"screen": {"name": "longest", "survivors": 30}}},
            "has a screen of its own",
        ),
    ],
)
def test_what_is_wrong_with_a_screen_is_said_under_its_title(tmp_path: Path, screen: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"screen {screen['name']} of selector loss: .*{said}"):
        trainer(tmp_path, screen)


@pytest.mark.parametrize(
    ("screen", "said"),
    [
        ({"name": "longest"}, "auto needs screen.worth"),
        ({"name": "longest", "survivors": 0}, "at least one row"),
        ({"name": "longest", "survivors": 9, "worth": 1.0}, "must be above 1"),
        ({"name": "longest", "survivors": 9, "every": -1}, "screen.every is -1"),
        ({"name": "longest", "survivors": 9, "agreement": -1}, "screen.agreement is -1"),
        ({"name": "longest", "survivors": 9, "evry": 1}, "evry"),
        ({"survivors": 9}, "name: Field required"),
        ({"name": "longest", "survivors": "many"}, "survivors: "),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, screen: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        trainer(tmp_path, screen)


@pytest.mark.parametrize(
    ("name", "said"),
    [("silent", "it gives no scores"), ("failing", r"failed in select\(\) at step 2: ZeroDivisionError: on purpose")],
)
def test_a_screen_that_fails_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ComponentError, match=f"screen {name} of selector loss.*{said}"):
        trainer(tmp_path, {"name": name, "survivors": 20}).train()


def test_a_context_made_by_hand_has_no_screen() -> None:
    params = LossParams(screen=ScreenParams("longest", survivors=5))
    component = LossSelector(params, make_context(ragged_pool(), Pad()))
    with pytest.raises(ComponentError, match="made by hand and has no screen"):
        component.select(tiny_qwen(), 3, 2)
