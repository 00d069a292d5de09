"""One pass: the numbers worked by hand, what is unbiased and what is not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dataflex_selectors_prune.pruning import number_kept, pruned_pass, whole_pass
from dataflex_selectors_prune.scores import RowScores

LOSSES, VALUES = [0.2, 0.4, 0.6, 1.0, 2.8], [1.0, 2.0, 3.0, 4.0, 5.0]  # mean 1, three below; a sum of 15


def expected_sum(losses: list[float], values: list[float], kept: int, weight: float) -> float:
    """The mean over every set of ``kept`` rows below the mean of the sum of the pass, weighted."""
    low = [place for place, loss in enumerate(losses) if loss < sum(losses) / len(losses)]
    rest = sum(value for place, value in enumerate(values) if place not in low)
    sets = list(itertools.combinations(low, kept))
    return sum(rest + weight * sum(values[place] for place in one) for one in sets) / len(sets)


def released(losses: list[float], values: list[float], ratio: float) -> float:
    """The released code: ``int()`` of them with weight 1 / (1 - r)."""
    below = sum(loss < sum(losses) / len(losses) for loss in losses)
    return expected_sum(losses, values, int(below * (1 - ratio)), 1 / (1 - ratio))


def independent(values: list[float], ratio: float) -> float:
    """A coin for each row, and n / kept as the weight: a pass in which all are left out is lost."""
    total = 0.0
    for flips in itertools.product((False, True), repeat=len(values)):
        kept = sum(flips)
        chance = (1 - ratio) ** kept * ratio ** (len(values) - kept)
        total += (
            chance * sum(value for value, flip in zip(values, flips, strict=True) if flip) * len(values) / max(kept, 1)
        )
    return total


def test_the_pass_by_hand_has_the_whole_sum_as_its_expectation() -> None:
    kept = number_kept(3, 0.5)
    assert kept == 2 and expected_sum(LOSSES, VALUES, kept, 3 / kept) == pytest.approx(15)
    assert expected_sum(LOSSES, VALUES, 1, 3 / 1) == pytest.approx(15)  # with one of them, n/m is 3


def test_the_released_code_and_coins_do_not() -> None:
    assert released(LOSSES, VALUES, 0.5) == pytest.approx(13)
    assert independent([1.0, 2.0, 3.0], 0.5) == pytest.approx(5.25)  # for 6


@pytest.mark.parametrize(
    ("below", "ratio", "kept"),
    [(3, 0.5, 2), (2, 0.5, 1), (1, 0.5, 1), (1, 0.9, 1), (4, 0.9, 1), (10, 0.25, 8), (7, 0.0, 7), (0, 0.5, 0)],
)
def test_half_a_row_is_rounded_up_and_one_is_always_kept(below: int, ratio: float, kept: int) -> None:
    assert number_kept(below, ratio) == kept
    if below > 1 and ratio == 0.5 and below % 2:
        assert int(below * (1 - ratio)) != kept  # what int() makes of it


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("count", range(2, 9))
def test_the_expectation_is_the_whole_sum_for_any_ratio_and_size(ratio: float, count: int) -> None:
    rng = np.random.default_rng(count)
    losses, values = rng.random(count).tolist(), rng.normal(size=count).tolist()
    below = sum(loss < np.mean(losses) for loss in losses)
    kept = number_kept(below, ratio)
    assert expected_sum(losses, values, kept, below / kept) == pytest.approx(sum(values))


def test_a_pass_holds_every_other_row_once_and_some_of_those_below() -> None:
    seen: set[tuple[int, ...]] = set()
    for seed in range(300):
        one = pruned_pass(np.array(LOSSES), 0.5, np.random.default_rng(seed))
        weights = dict(zip(one.rows.tolist(), one.weights.tolist(), strict=True))
        assert len(weights) == len(one.rows) == 4 and (one.below, one.kept, one.mean) == (3, 2, pytest.approx(1))
        low = tuple(sorted(row for row in weights if row < 3))
        assert {weights[row] for row in low} == {1.5} and weights[3] == weights[4] == 1
        seen.add(low)
    assert seen == {(0, 1), (0, 2), (1, 2)}


def test_each_row_below_is_kept_as_often_as_any_other_and_anywhere_in_the_order() -> None:
    kept, first = np.zeros(5), np.zeros(5)
    for seed in range(3000):
        rows = pruned_pass(np.array(LOSSES), 0.5, np.random.default_rng(seed)).rows
        kept[rows] += 1
        first[rows[0]] += 1
    assert ((kept[:3] - 2000) ** 2 / 2000).sum() < 13.8 and kept[3:].tolist() == [3000, 3000]
    expected = np.array([500, 500, 500, 750, 750])
    assert ((first - expected) ** 2 / expected).sum() < 18.5  # 4 degrees of freedom, p = 0.001


@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0, 1.0], [math.nan] * 4])
def test_where_no_row_is_below_the_mean_all_are_read(scores: list[float]) -> None:
    one = pruned_pass(np.array(scores), 0.5, np.random.default_rng(0))
    assert sorted(one.rows) == [0, 1, 2, 3] and one.weights.tolist() == [1] * 4
    assert one.rows.tolist() == whole_pass(4, np.random.default_rng(0)).rows.tolist()


def test_a_row_without_a_loss_is_read_and_counts_in_no_mean() -> None:
    scores = np.array([0.2, math.nan, 0.4, math.inf, 3.0])
    for seed in range(20):
        one = pruned_pass(scores, 0.5, np.random.default_rng(seed))
        weights = dict(zip(one.rows.tolist(), one.weights.tolist(), strict=True))
        assert one.mean == pytest.approx(1.2) and weights[1] == weights[3] == weights[4] == 1
        assert len(weights) == 4 and sum(weights.values()) == 5


def test_the_evolved_score_by_hand() -> None:
    scores = RowScores(2, evolved=True)
    found = []
    for loss in (1.0, 0.8, 0.5):
        scores.see(np.array([1]), np.array([loss]))
        found.append(scores.values[1])
    assert found == pytest.approx([1, 0.84, 0.596]) and math.isnan(scores.values[0])


def test_of_a_row_that_comes_twice_in_a_step_the_later_loss_is_the_last() -> None:
    plain, evolved, apart = RowScores(3, evolved=False), RowScores(3, evolved=True), RowScores(3, evolved=True)
    rows, losses = np.array([2, 0, 2]), np.array([1.0, 5.0, 0.8])
    plain.see(rows, losses)
    evolved.see(rows, losses)
    for row, loss in zip(rows, losses, strict=True):
        apart.see(np.array([row]), np.array([loss]))
    assert plain.values[[0, 2]].tolist() == [5.0, 0.8]
    assert np.array_equal(evolved.values, apart.values, equal_nan=True) and evolved.values[2] == pytest.approx(0.84)


def test_a_loss_that_is_no_number_leaves_what_was_known() -> None:
    scores = RowScores(2, evolved=False)
    scores.see(np.array([0, 1]), np.array([1.0, math.nan]))
    scores.see(np.array([0]), np.array([math.inf]))
    assert scores.values[0] == 1.0 and math.isnan(scores.values[1])


@pytest.mark.parametrize(("value", "rows"), [(0.1, 3), (0.7, 6), (2.3, 7)])
def test_of_equal_losses_none_is_below_the_mean(value: float, rows: int) -> None:
    scores = np.full(rows, value)
    assert (scores < scores.mean()).all()  # by rounding
    found = pruned_pass(scores, 0.5, np.random.default_rng(0))
    assert sorted(found.rows) == list(range(rows)) and found.below == 0
    assert (found.weights == 1).all()
