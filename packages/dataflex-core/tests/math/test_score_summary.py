"""What is kept of a pool's scores."""

from __future__ import annotations

import numpy as np
import pytest

from dataflex.math.score_summary import BINS, score_summary


def test_it_counts_what_is_finite_and_what_is_not():
    summary = score_summary(np.array([1.0, np.nan, np.inf, 3.0, np.nan]), np.array([0]))
    assert (summary["finite"], summary["nan"], summary["infinite"]) == (2, 2, 1)


def test_quantiles_are_of_the_finite_scores_and_of_the_chosen_ones():
    summary = score_summary(np.array([0.0, 1.0, 2.0, 3.0, 4.0, np.nan]), np.array([3, 4, 4, 5]))
    assert summary["levels"][3] == 0.5
    assert summary["quantiles"][3] == 2.0 and summary["quantiles"][0] == 0.0 and summary["quantiles"][-1] == 4.0
    assert summary["chosen_quantiles"][3] == 4.0  # of 3, 4, 4: a row counts as often as it is named
    assert summary["mean"] == 2.0 and summary["std"] == pytest.approx(2**0.5)


def test_the_histogram_has_every_finite_score_once():
    summary = score_summary(np.arange(300.0), np.arange(290, 300))
    assert summary["histogram_range"] == [0.0, 299.0] and len(summary["histogram_counts"]) == BINS
    assert sum(summary["histogram_counts"]) == 300 and set(summary["histogram_counts"]) == {10}
    assert summary["chosen_histogram_counts"] == [0] * (BINS - 1) + [10]


def test_equal_scores_have_a_histogram_too():
    assert sum(score_summary(np.ones(5), np.array([1]))["histogram_counts"]) == 5


def test_a_pool_without_a_finite_score_has_counts_only():
    assert score_summary(np.full(3, np.nan), np.array([0])) == {"finite": 0, "nan": 3, "infinite": 0}
