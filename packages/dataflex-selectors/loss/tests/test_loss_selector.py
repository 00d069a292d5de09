from __future__ import annotations

import numpy as np
import pytest
from loss_cases import ragged_pool, selector, tiny_qwen, two_token_pool

from dataflex.errors import ConfigError
from dataflex_selectors_loss.choosing import focus_log_weights
from dataflex_selectors_loss.params import LossParams

SIX = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]  # terciles by linear interpolation: 2.667 and 4.333
THIRDS = (1 / 3, 2 / 3)


@pytest.mark.parametrize(
    ("focus", "temperature", "weights"),
    [
        ("low", 1.0, [5, 5, 1, 1, 1, 1]),
        ("medium", 1.0, [1, 1, 5, 5, 1, 1]),
        ("high", 1.0, [1, 1, 1, 1, 5, 5]),
        ("high", 2.0, [1, 1, 1, 1, 2.236068, 2.236068]),
        ("high", 0.5, [1, 1, 1, 1, 25, 25]),
    ],
)
def test_the_band_in_focus_has_the_weight(focus: str, temperature: float, weights: list[float]) -> None:
    params = LossParams(focus=focus, temperature=temperature, quantiles=THIRDS)  # type: ignore[arg-type]
    assert np.exp(focus_log_weights(np.array(SIX), params)) == pytest.approx(weights, rel=1e-6)


def test_bands_ignore_losses_that_are_not_finite() -> None:
    losses = np.array([*SIX, np.nan, np.inf])
    weights = np.exp(focus_log_weights(losses, LossParams(quantiles=THIRDS)))
    assert weights == pytest.approx([1, 1, 1, 1, 5, 5, 0, 0])


def test_a_sample_on_a_quantile_belongs_to_the_band_below() -> None:
    losses = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    for focus, inside in (("low", [1, 2]), ("medium", [3, 4]), ("high", [5])):
        params = LossParams(focus=focus, quantiles=(0.25, 0.75))  # type: ignore[arg-type]
        assert losses[focus_log_weights(losses, params) > 0].tolist() == inside


def test_equal_losses_are_drawn_uniformly() -> None:
    assert len(set(focus_log_weights(np.full(7, 2.5), LossParams()).tolist())) == 1


def test_draws_with_replacement_follow_the_focus() -> None:
    rows, model = two_token_pool([1, 2, 3, 4, 5, 6])
    chosen = selector(rows, quantiles=THIRDS, replacement=True).select(model, 9, 14_000)
    counts = np.bincount(np.asarray(chosen.rows), minlength=6)
    expected = 14_000 * np.array([1, 1, 1, 1, 5, 5]) / 14
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # 5 degrees of freedom, p = 0.001


def test_draws_without_replacement_follow_the_focus() -> None:
    # Of two samples drawn, the chance that both are in focus is 10/14 * 5/9, that none is, 4/14 * 3/13.
    rows, model = two_token_pool([1, 2, 3, 4, 5, 6])
    picker, draws = selector(rows, quantiles=THIRDS), 1500
    inside = [sum(row >= 4 for row in picker.select(model, step, 2).rows) for step in range(draws)]
    expected = draws * np.array([12 / 182, 1 - 12 / 182 - 50 / 126, 50 / 126])
    assert ((np.bincount(inside, minlength=3) - expected) ** 2 / expected).sum() < 13.8  # 2 degrees of freedom


def test_the_order_of_a_draw_does_not_put_the_favoured_first() -> None:
    rows, model = two_token_pool([1, 2, 3, 4, 5, 6])
    picker = selector(rows, quantiles=THIRDS, focus_weight=1e6)
    first = [picker.select(model, step, 6).rows[0] for step in range(600)]
    counts = np.bincount(first, minlength=6)
    assert ((counts - 100) ** 2 / 100).sum() < 20.5


def test_no_row_is_drawn_twice_without_replacement() -> None:
    rows, model = two_token_pool([1, 2, 3, 4, 5, 6])
    assert sorted(selector(rows).select(model, 3, 6).rows) == list(range(6))


def test_top_takes_the_highest_losses_and_breaks_ties_by_index() -> None:
    rows, model = two_token_pool([2, 5, 1, 5, 4])
    for seed in (1, 2):
        chosen = selector(rows, mode="top", seed=seed).select(model, 3, 4)
        assert sorted(chosen.rows) == [0, 1, 3, 4]
        assert list(selector(rows, mode="top", seed=seed).select(model, 3, 1).rows) == [1]
    assert chosen.scores == pytest.approx([2, 5, 1, 5, 4], abs=1e-5)


def test_a_selection_is_a_function_of_seed_and_step() -> None:
    rows, model = ragged_pool(), tiny_qwen()

    def rows_of(seed: int, step: int, budget: int = 16384) -> list[int]:
        return list(selector(rows, seed=seed, token_budget=budget).select(model, step, 6).rows)

    assert rows_of(1, 3) == rows_of(1, 3) == rows_of(1, 3, budget=1)
    assert rows_of(1, 3) != rows_of(1, 4)
    assert rows_of(1, 3) != rows_of(2, 3)


def test_fewer_candidates_than_samples_is_an_error_that_says_what_to_change() -> None:
    rows, model = two_token_pool([1, 2, 3])
    with pytest.raises(ConfigError, match=r"step 7 draws 4 samples.*3 candidates \(the whole pool\)\. Lower update"):
        selector(rows).select(model, 7, 4)
    with pytest.raises(ConfigError, match=r"2 candidates \(max_candidates=2 of a pool of 3\)\. Raise comp.*max_cand"):
        selector(rows, mode="top", max_candidates=2).select(model, 7, 3)
    assert len(selector(rows, max_candidates=2, replacement=True).select(model, 7, 9).rows) == 9


def test_an_empty_pool_is_an_error() -> None:
    with pytest.raises(ConfigError, match="0 candidates"):
        selector([], replacement=True).select(tiny_qwen(), 7, 1)


def test_each_boundary_scores_another_part_of_the_pool() -> None:
    rows, model = two_token_pool([1, 2, 3, 4, 5, 6] * 5)
    picker = selector(rows, max_candidates=8)
    scored = []
    for step in (10, 20, 30):
        chosen = picker.select(model, step, 4)
        assert chosen.scores is not None
        assert len(chosen.scores) == 30
        part = np.flatnonzero(np.isfinite(chosen.scores)).tolist()
        assert len(part) == 8
        assert set(chosen.rows) <= set(part)
        assert chosen.metrics["scored"] == chosen.metrics["max_candidates"] == 8
        scored.append(part)
    assert scored[0] != scored[1] != scored[2]
    again = selector(rows, max_candidates=8).select(model, 20, 4).scores
    assert again is not None
    assert np.flatnonzero(np.isfinite(again)).tolist() == scored[1]


def test_max_candidates_above_the_pool_scores_all_of_it() -> None:
    rows, model = two_token_pool([1, 2, 3])
    assert selector(rows, max_candidates=50).select(model, 7, 3).metrics["scored"] == 3


def test_metrics_describe_the_scores() -> None:
    rows, model = two_token_pool([1, 2, 3, 4, 5])
    metrics = selector(rows).select(model, 7, 3).metrics
    assert metrics["score_quantiles"] == pytest.approx([1, 2, 3, 4, 5], abs=1e-5)
    assert (metrics["scored"], metrics["non_finite"], metrics["without_targets"]) == (5, 0, 0)
    assert metrics["samples_per_second"] == pytest.approx(5 / metrics["seconds"])
    assert "max_candidates" not in metrics


def test_warm_up_draws_at_random_without_replacement() -> None:
    rows, _ = two_token_pool([1, 2, 3, 4, 5])
    assert sorted(selector(rows).warmup(5)) == list(range(5))


@pytest.mark.parametrize("params", [{}, {"mode": "top"}])
def test_with_passes_the_rows_of_one_pass_are_read_again_in_another_order(params: dict[str, str]) -> None:
    rows, model = two_token_pool([1, 2, 3, 4, 5, 6])
    once = np.asarray(selector(rows, **params).select(model, 3, 3).rows).tolist()
    plan = np.asarray(selector(rows, passes=3, **params).select(model, 3, 8).rows).tolist()
    assert sorted(plan[:3]) == sorted(plan[3:6]) == sorted(once)
    assert set(plan[6:]) < set(once) and len(set(plan[6:])) == 2
    orders = {tuple(np.asarray(selector(rows, passes=2, **params).select(model, step, 6).rows)) for step in range(9)}
    assert any(order[:3] != order[3:] for order in orders)


def test_with_passes_a_small_part_of_the_pool_fills_a_stage() -> None:
    rows, model = two_token_pool([2, 5, 1])
    assert len(selector(rows, max_candidates=2, passes=2).select(model, 7, 4).rows) == 4
    with pytest.raises(ConfigError, match=r"draws 3 .*\(passes=2 of a stage of 5\), but there are 2 candidates"):
        selector(rows, max_candidates=2, passes=2).select(model, 7, 5)
    replaced = selector(rows, max_candidates=2, passes=2, replacement=True).select(model, 7, 10)
    drawn = np.asarray(replaced.rows)
    assert sorted(drawn[:5]) == sorted(drawn[5:]) and len(set(drawn)) <= 2
