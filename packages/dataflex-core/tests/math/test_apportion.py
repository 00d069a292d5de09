from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.apportion import apportion


def rounded(weights: list[float], caps: list[int], n: int) -> list[int]:
    """Wrong: shares rounded to the nearest and cut at the cap: they need not sum to n."""
    return np.minimum(np.rint(np.asarray(weights) * n), caps).astype(int).tolist()


def test_what_is_above_a_cap_goes_to_the_others_by_weight() -> None:
    weights, caps = [0.5, 0.3, 0.15, 0.05], [3, 9, 9, 9]
    assert apportion(weights, caps, 12).tolist() == [3, 5, 3, 1]
    assert sum(rounded(weights, caps, 12)) != 12


@pytest.mark.parametrize(
    ("weights", "caps", "n", "shares"),
    [
        ([1, 1, 1], [9, 9, 9], 4, [2, 1, 1]),  # equal remainders: the lower index
        ([0.1, 0.2, 0.7], [9, 9, 9], 10, [1, 2, 7]),  # no row is lost to 0.1 * 10 being a little below 1
        ([3, 0, 1], [5, 5, 5], 8, [5, 0, 3]),
        ([3, 1], [5, 5], 10, [5, 5]),
        ([1, 1], [5, 5], 0, [0, 0]),
        ([], [], 0, []),
        ([1e-300, 1.0], [4, 4], 8, [4, 4]),
    ],
)
def test_shares_by_hand(weights: list[float], caps: list[int], n: int, shares: list[int]) -> None:
    assert apportion(weights, caps, n).tolist() == shares


@given(st.data())
def test_shares_sum_to_the_budget_below_their_caps_and_within_one_of_the_exact_ones(data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.floats(1e-3, 1), st.integers(0, 20)), min_size=1, max_size=9))
    weights, caps = (np.asarray(each) for each in zip(*pairs, strict=True))
    n = data.draw(st.integers(0, int(caps.sum())))
    shares = apportion(weights, caps, n)
    assert shares.sum() == n
    assert (shares <= caps).all() and (shares >= 0).all()
    low, high = 0.0, 1e7  # the level by bisection
    for _ in range(200):
        level = (low + high) / 2
        low, high = (low, level) if np.minimum(caps, level * weights).sum() >= n else (level, high)
    assert (np.abs(shares - np.minimum(caps, high * weights)) < 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("weights", "caps", "n"),
    [
        ([1.0, 0.0], [2, 9], 3),
        ([1.0], [2], -1),
        ([-1.0], [2], 1),
        ([np.nan], [2], 1),
        ([1.0], [-1], 0),
        ([1.0], [1, 1], 1),
    ],
)
def test_what_cannot_be_divided_is_refused(weights: list[float], caps: list[int], n: int) -> None:
    with pytest.raises(ValueError, match=r"must|cannot divide"):
        apportion(weights, caps, n)
