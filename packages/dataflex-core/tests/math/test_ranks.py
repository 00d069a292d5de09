"""Ranks and their correlation are those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from dataflex.math.ranks import mean_ranks, spearman

NUMBERS = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0, 1e9]), min_size=1, max_size=30)


@given(NUMBERS)
def test_ranks_are_those_of_scipy_counted_from_0(values: list[float]) -> None:
    np.testing.assert_array_equal(mean_ranks(values), rankdata(values) - 1)


@given(st.integers(0, 10**6), st.integers(2, 40))
def test_the_correlation_is_that_of_scipy_ties_included(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 6, size), rng.integers(0, 6, size)
    found = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_a_constant_side_has_no_correlation() -> None:
    assert spearman([1.0] * 20, np.arange(20)) is None
