from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.topk import gumbel_top_k, top_k, weighted_with_replacement

NAN, INF = float("nan"), float("inf")


def test_top_k_is_descending_and_breaks_ties_by_index() -> None:
    assert top_k([1.0, 3.0, 2.0, 3.0, 0.0], 4).tolist() == [1, 3, 2, 0]


def test_top_k_takes_what_is_not_finite_last() -> None:
    assert top_k([NAN, -5.0, INF, 7.0, -INF], 5).tolist() == [3, 1, 0, 2, 4]


@given(st.lists(st.floats(), min_size=1, max_size=30), st.data())
def test_top_k_agrees_with_sorting_pairs(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(scores)))
    finite = [index for index, score in enumerate(scores) if np.isfinite(score)]
    others = [index for index, score in enumerate(scores) if not np.isfinite(score)]
    wanted = sorted(finite, key=lambda index: (-scores[index], index)) + others
    assert top_k(scores, k).tolist() == wanted[:k]


@pytest.mark.parametrize("k", [-1, 4])
def test_more_rows_than_there_are_cannot_be_taken(k: int) -> None:
    with pytest.raises(ValueError, match="of 3 rows"):
        top_k([1.0, 2.0, 3.0], k)
    with pytest.raises(ValueError, match="of 3 rows"):
        gumbel_top_k([1.0, 2.0, 3.0], k, np.random.default_rng(0))


def test_gumbel_draws_pairs_as_often_as_successive_weighted_draws_do() -> None:
    # Weights 1, 2, 5: P(first i, then j) = w_i / 8 * w_j / (8 - w_i).
    wanted = {(0, 1): 2 / 56, (0, 2): 5 / 56, (1, 0): 2 / 48, (1, 2): 10 / 48, (2, 0): 5 / 24, (2, 1): 10 / 24}
    rng, draws = np.random.default_rng(7), 20_000
    seen = dict.fromkeys(wanted, 0)
    for _ in range(draws):
        first, second = gumbel_top_k(np.log([1.0, 2.0, 5.0]), 2, rng).tolist()
        seen[first, second] += 1
    chi_square = sum((seen[pair] - draws * share) ** 2 / (draws * share) for pair, share in wanted.items())
    assert chi_square < 20.5  # 5 degrees of freedom: exceeded once in a thousand seeds


def test_gumbel_takes_rows_without_weight_last_and_in_random_order() -> None:
    log_weights = [-INF, 0.0, NAN, -700.0, INF]
    drawn = [gumbel_top_k(log_weights, 5, np.random.default_rng(seed)).tolist() for seed in range(40)]
    assert all(row[:2] == [1, 3] for row in drawn)
    assert {row[2] for row in drawn} == {0, 2, 4}


def test_gumbel_draws_from_more_rows_than_torch_multinomial_can() -> None:
    log_weights = np.full(2**24 + 5, -INF)
    log_weights[[2**24 + 1, 2**24 + 4]] = 0.0
    drawn = gumbel_top_k(log_weights, 2, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == [2**24 + 1, 2**24 + 4]


def test_draws_with_replacement_follow_the_weights() -> None:
    draws = 20_000
    drawn = weighted_with_replacement([0.0, 1.0, NAN, 3.0, 4.0], draws, np.random.default_rng(3))
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    expected = draws * np.array([1, 3, 4]) / 8
    assert ((counts[[1, 3, 4]] - expected) ** 2 / expected).sum() < 13.8  # 2 degrees of freedom, p = 0.001


@pytest.mark.parametrize("weights", [[0.0, NAN], [], [1.0, -0.5]])
def test_weights_that_cannot_be_drawn_from_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be"):
        weighted_with_replacement(weights, 1, np.random.default_rng(0))
