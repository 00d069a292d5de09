"""Votes and balance over several targets: ICONS's and BIDS's example, worked by hand, and what holds for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from dataflex.math.aggregation import aggregate
from dataflex.math.topk import top_k
from dataflex.math.votes import balanced, mean_fractional_ranks, thresholds, vote_scores, votes, z_scores

SCORES = np.array(
    [
        [0.9, 0.05, 0.04],
        [0.5, 0.3, 0.36],
        [0.4, 0.32, 0.3],
        [0.1, 0.4, 0.1],
        [0.45, 0.1, 0.35],
        [0.05, 0.06, 0.6],
    ]
)
"""Six rows and three targets, of which two rows are to be chosen."""

SHARE = 2 / 6


def ten_times_the_second(scores: np.ndarray) -> np.ndarray:
    return scores * np.array([1.0, 10.0, 1.0])


def test_thresholds_votes_and_ranks_of_the_example() -> None:
    np.testing.assert_allclose(thresholds(SCORES, SHARE), [0.4667, 0.3067, 0.3533], atol=5e-5)
    assert votes(SCORES, SHARE).tolist() == [1, 2, 1, 1, 0, 1]
    expected = [0.333, 0.733, 0.533, 0.467, 0.533, 0.4]
    np.testing.assert_allclose(mean_fractional_ranks(SCORES), expected, atol=5e-4)


def test_the_rows_of_most_votes_are_chosen_and_ties_go_by_rank() -> None:
    assert set(top_k(vote_scores(SCORES, SHARE), 2)) == {1, 2}
    assert set(top_k(aggregate(SCORES, "max"), 2)) == {0, 5}
    assert set(top_k(aggregate(SCORES, "mean"), 2)) == {1, 2}


def test_the_scale_of_a_target_changes_max_and_mean_but_no_vote() -> None:
    scaled = ten_times_the_second(SCORES)
    np.testing.assert_array_equal(votes(scaled, SHARE), votes(SCORES, SHARE))
    assert set(top_k(vote_scores(scaled, SHARE), 2)) == {1, 2}
    assert set(top_k(aggregate(scaled, "max"), 2)) == {3, 2}
    assert set(top_k(aggregate(scaled, "mean"), 2)) == {3, 2}


def test_ties_left_to_the_sort_take_another_row() -> None:
    """What the released code does: rows of equal votes as argsort leaves them. Row 0 has the least mean rank of all
    rows with one vote, and is taken.
    """
    by_sort = np.argsort(-votes(SCORES, SHARE), kind="stable")[:2]
    assert set(by_sort) == {1, 0}
    assert set(top_k(vote_scores(SCORES, SHARE), 2)) == {1, 2}


def test_balance_serves_the_target_that_is_worst_off() -> None:
    np.testing.assert_allclose(z_scores(SCORES)[0], [1.777, -1.113, -1.367], atol=5e-4)
    assert balanced(SCORES, 3).tolist() == [0, 5, 3]


def test_raw_cosines_added_up_serve_another_target() -> None:
    """A careless balance adds the scores as they are: no sum ever falls, so scales decide who is worst off."""

    def careless(scores: np.ndarray, num_samples: int) -> list[int]:
        sums, taken = np.zeros(scores.shape[1]), []
        for _ in range(num_samples):
            target = int(sums.argmin())
            row = next(int(row) for row in top_k(scores[:, target], len(scores)) if row not in taken)
            taken.append(row)
            sums += scores[row]
        return taken

    scaled = ten_times_the_second(SCORES)
    assert balanced(scaled, 6).tolist() == balanced(SCORES, 6).tolist()
    assert careless(scaled, 6) != careless(SCORES, 6)


def test_a_row_without_a_score_has_no_part_and_comes_last() -> None:
    with_nan = np.vstack([SCORES, [np.nan, 1.0, 1.0], [2.0, 2.0, np.inf]])
    for function in (mean_fractional_ranks, lambda scores: votes(scores, SHARE), lambda s: vote_scores(s, SHARE)):
        np.testing.assert_array_equal(function(with_nan)[:6], function(SCORES))
        assert np.isnan(function(with_nan)[6:]).all()
    assert top_k(vote_scores(with_nan, SHARE), 8)[6:].tolist() == [6, 7]
    assert set(balanced(with_nan, 6)) == set(range(6))
    with pytest.raises(ValueError, match="cannot take 7 rows where 6 have a score"):
        balanced(with_nan, 7)


def test_a_single_row_has_rank_0_and_all_votes() -> None:
    one = np.array([[0.3, 0.2]])
    assert mean_fractional_ranks(one).tolist() == [0.0]
    assert votes(one, 1.0).tolist() == [2]
    assert balanced(one, 1).tolist() == [0]


def test_a_target_whose_scores_are_alike_moves_no_balance() -> None:
    alike = np.column_stack([SCORES[:, 0], np.full(6, 0.1 + 0.2)])
    assert (z_scores(alike)[:, 1] == 0).all()
    # Of two sums that are 0 the first target is served, then the second, whose sum stays 0, by row.
    assert balanced(alike, 3).tolist() == [0, 1, 2]


def test_ties_can_go_by_the_mean_score() -> None:
    order = top_k(vote_scores(SCORES, SHARE, "mean"), 6)
    counts, means = votes(SCORES, SHARE), SCORES.mean(axis=1)
    assert order.tolist() == sorted(range(6), key=lambda row: (-counts[row], -means[row], row))
    np.testing.assert_array_equal(vote_scores(SCORES, SHARE, "random"), counts)


TABLES = st.builds(
    lambda seed, rows, targets, ties: np.round(np.random.default_rng(seed).normal(size=(rows, targets)), ties),
    st.integers(0, 10**6),
    st.integers(2, 25),
    st.integers(1, 5),
    st.sampled_from([0, 1, 6]),
)


@given(TABLES, st.integers(1, 25))
def test_each_target_votes_for_as_many_rows_as_are_chosen_at_least(table: np.ndarray, wanted: int) -> None:
    k = min(wanted, len(table))
    counts = votes(table, k / len(table))
    assert counts.sum() >= table.shape[1] * k
    np.testing.assert_array_equal(counts, (table >= thresholds(table, k / len(table)) - 1e-12).sum(axis=1))
    chosen = top_k(vote_scores(table, k / len(table)), k)
    others = np.setdiff1d(np.arange(len(table)), chosen)
    assert not len(others) or counts[chosen].min() >= counts[others].max()


@given(TABLES, st.integers(1, 25), st.integers(0, 4))
def test_votes_are_unchanged_by_any_increasing_map_of_a_target(table: np.ndarray, wanted: int, column: int) -> None:
    share = min(wanted, len(table)) / len(table)
    mapped = table.copy()
    target = column % table.shape[1]
    mapped[:, target] = np.exp(3 * mapped[:, target]) - 7
    np.testing.assert_array_equal(votes(mapped, share), votes(table, share))
    np.testing.assert_array_equal(vote_scores(mapped, share), vote_scores(table, share))


@given(TABLES, st.integers(1, 25))
def test_one_target_chooses_as_the_mean_does(table: np.ndarray, wanted: int) -> None:
    one, k = table[:, :1], min(wanted, len(table))
    by_votes = top_k(vote_scores(one, k / len(one)), k)
    np.testing.assert_array_equal(by_votes, top_k(aggregate(one, "mean"), k))


@given(TABLES, st.integers(1, 25), st.integers(0, 10**6))
def test_rows_and_targets_may_be_renamed(table: np.ndarray, wanted: int, seed: int) -> None:
    share, rng = min(wanted, len(table)) / len(table), np.random.default_rng(seed)
    rows, targets = rng.permutation(len(table)), rng.permutation(table.shape[1])
    np.testing.assert_array_equal(votes(table[rows][:, targets], share), votes(table, share)[rows])
    ranks = mean_fractional_ranks(table[rows][:, targets])
    np.testing.assert_allclose(ranks, mean_fractional_ranks(table)[rows], atol=1e-12)


@given(TABLES, st.integers(1, 25))
def test_a_target_listed_twice_counts_twice(table: np.ndarray, wanted: int) -> None:
    share = min(wanted, len(table)) / len(table)
    twice = np.column_stack([table, table[:, 0]])
    np.testing.assert_array_equal(votes(twice, share), votes(table, share) + votes(table[:, :1], share))


@given(TABLES)
def test_ranks_are_those_of_scipy(table: np.ndarray) -> None:
    expected = (rankdata(table, axis=0) - 1).mean(axis=1) / max(len(table) - 1, 1)
    np.testing.assert_allclose(mean_fractional_ranks(table), expected, atol=1e-12)


@given(TABLES, st.integers(1, 25))
def test_balance_takes_each_row_once_and_shorter_lists_are_beginnings_of_longer_ones(
    table: np.ndarray, wanted: int
) -> None:
    k = min(wanted, len(table))
    chosen = balanced(table, k)
    assert len(set(chosen)) == k
    np.testing.assert_array_equal(chosen, balanced(table, len(table))[:k])
