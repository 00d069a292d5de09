from __future__ import annotations

import numpy as np
import pytest
from margin_cases import chosen, selector
from torch import nn

from dataflex.errors import ComponentError, ConfigError
from dataflex_selectors_margin.selector import in_band

EIGHT = [3.0, -2.0, 0.5, 1.0, -0.5, 2.0, 0.1, -4.0]  # sorted -4 -2 -.5 .1 .5 1 2 3; quartiles -.875 and 1.25
MODEL = nn.Linear(1, 1)


def test_the_band_lies_between_the_quartiles() -> None:
    assert in_band(np.array(EIGHT), (0.25, 0.75)).tolist() == [2, 3, 4, 6]
    assert sorted(chosen(EIGHT, 3, 4)) == [2, 3, 4, 6]


def test_margins_that_are_no_number_are_outside_and_move_no_quantile() -> None:
    assert in_band(np.array([np.nan, *EIGHT, np.inf, -np.inf]), (0.25, 0.75)).tolist() == [3, 4, 5, 7]


def test_both_ends_of_the_band_belong_to_it() -> None:
    assert in_band(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), (0.25, 0.75)).tolist() == [1, 2, 3]
    assert in_band(np.zeros(5), (0.25, 0.75)).tolist() == [0, 1, 2, 3, 4]  # as before training, where all are equal


def test_inside_the_band_every_pair_is_as_likely() -> None:
    counts = np.bincount([chosen(EIGHT, step, 1)[0] for step in range(800)], minlength=8)
    assert counts[[0, 1, 5, 7]].sum() == 0
    inside = counts[[2, 3, 4, 6]]
    assert ((inside - 200) ** 2 / 200).sum() < 16.3  # 3 degrees of freedom, p = 0.001


def test_top_and_bottom_take_the_highest_and_lowest_margins_and_break_ties_by_row() -> None:
    assert sorted(chosen(EIGHT, 3, 3, mode="top")) == [0, 3, 5]
    assert sorted(chosen(EIGHT, 3, 3, mode="bottom")) == [1, 4, 7]
    assert sorted(chosen([1.0, 2.0, 2.0, 2.0], 3, 2, mode="top")) == [1, 2]
    assert sorted(chosen([2.0, 1.0, 1.0, 1.0], 3, 2, mode="bottom")) == [1, 2]


@pytest.mark.parametrize("mode", ["top", "bottom"])
def test_pairs_without_a_finite_margin_come_last(mode: str) -> None:
    margins = [np.nan, 1.0, np.inf, 2.0, -np.inf]
    assert sorted(chosen(margins, 3, 2, mode=mode)) == [1, 3]
    assert selector(margins, mode=mode).select(MODEL, 3, 2).metrics["non_finite"] == 3


def test_a_selection_is_a_function_of_seed_and_step() -> None:
    many = np.random.default_rng(0).normal(size=60).tolist()
    assert chosen(many, 3, 8) == chosen(many, 3, 8) == chosen(many, 3, 8, token_budget=1)
    assert chosen(many, 3, 8) != chosen(many, 4, 8)
    assert chosen(many, 3, 8) != chosen(many, 3, 8, seed=2)


def test_a_band_too_small_for_a_stage_is_an_error_that_says_what_to_change() -> None:
    with pytest.raises(ConfigError, match=r"step 3 draws 5 pairs.*0\.25 to 0\.75.*holds 4 of 8\. Widen quantiles"):
        chosen(EIGHT, 3, 5)
    assert len(chosen(EIGHT, 3, 8, passes=2)) == 8
    assert sorted(chosen(EIGHT, 3, 5, quantiles=(0.1, 0.9))) == sorted(set(chosen(EIGHT, 3, 5, quantiles=(0.1, 0.9))))


def test_fewer_pairs_than_a_stage_draws_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"step 3 draws 9 samples.*8 candidates"):
        chosen(EIGHT, 3, 9, mode="top")


def test_no_finite_margin_stops_the_run() -> None:
    with pytest.raises(ComponentError, match="none of the 2 pairs at step 3 has a finite margin"):
        chosen([np.nan, np.nan], 3, 1)


def test_with_passes_the_pairs_of_one_pass_are_read_again_in_another_order() -> None:
    many = np.random.default_rng(0).normal(size=60).tolist()
    plan = chosen(many, 3, 18, passes=3)
    assert sorted(plan[:6]) == sorted(plan[6:12]) == sorted(plan[12:]) and len(set(plan)) == 6
    assert plan[:6] != plan[6:12]


def test_each_boundary_scores_another_part_of_the_pool() -> None:
    many = np.random.default_rng(0).normal(size=60).tolist()
    picker, parts = selector(many, max_candidates=20), []
    for step in (10, 20):
        found = picker.select(MODEL, step, 4)
        assert found.scores is not None
        parts.append(np.flatnonzero(np.isfinite(found.scores)).tolist())
        assert len(parts[-1]) == 20 and set(map(int, found.rows)) <= set(parts[-1])
    assert parts[0] != parts[1]


def test_metrics_describe_the_margins() -> None:
    found = selector(EIGHT).select(MODEL, 3, 2)
    metrics = found.metrics
    assert metrics["score_quantiles"] == pytest.approx([-4, -0.875, 0.3, 1.25, 3])
    assert (metrics["scored"], metrics["non_finite"], metrics["in_band"]) == (8, 0, 4)
    assert metrics["accuracy"] == pytest.approx(5 / 8)
    np.testing.assert_array_equal(found.scores, EIGHT)
