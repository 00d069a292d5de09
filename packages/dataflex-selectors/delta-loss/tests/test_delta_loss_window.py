"""The window by hand, against the rules of dataflex 1.1.0."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex_selectors_delta_loss.window import progress, window

BEFORE = np.full(10, 2.0)
NOW = np.array([1, 1.2, 1.4, 1.6, 1.8, 1.9, 2, 2.1, 2.2, np.nan])
DROPS = BEFORE - NOW


def rivals(drops: npt.NDArray[np.float64], boundary: int, boundaries: int) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Wrong: the window is cut at the first negative drop and may end before it begins; rows of NaN are drawn.

    Returns:
        The ranks in the window, and the probability of each row to be the first drawn.
    """
    count = len(drops)
    order = np.argsort(-np.nan_to_num(drops, nan=-np.inf), kind="stable")
    place = 1 / (1 + math.exp(-10 * ((boundary - 1) / (boundaries - 1) - 0.5)))
    start = int(0.8 * count * place)
    falling = int((drops >= 0).sum())
    ranks = list(range(start, min(start + int(0.2 * count), falling)))
    weights = np.full(count, 0.025)
    weights[order[ranks]] = 1.0
    return ranks, weights / weights.sum()


def ours(boundary: int, boundaries: int = 5, share: float = 0.2) -> list[int]:
    return window(DROPS, progress(boundary, boundaries, 10), share, 0.025).inside.tolist()


def test_the_window_goes_from_the_largest_drop_to_the_smallest_that_is_no_rise() -> None:
    assert [progress(boundary, 5, 10) for boundary in (2, 3, 4, 5)] == pytest.approx(
        [0, 0.154241, 0.845759, 1], abs=1e-6
    )
    assert [ours(boundary) for boundary in (2, 3, 4, 5)] == [[0], [1], [5], [6]]
    assert ours(2, share=0.5) == [0, 1, 2, 3]
    assert [rivals(DROPS, boundary, 5)[0] for boundary in (2, 3, 4, 5)] == [[0, 1], [4, 5], [], []]


def test_rows_outside_have_a_small_weight_and_rows_without_a_loss_none() -> None:
    found = window(DROPS, 0.0, 0.2, 0.025)
    p = np.exp(found.log_weights) / np.exp(found.log_weights).sum()
    assert p[0] == pytest.approx(0.833333, abs=1e-6)
    assert p[9] == 0
    assert rivals(DROPS, 5, 5)[1][9] == pytest.approx(
        0.1
    )  # an empty window: every row alike, the one without a loss too
    assert (found.known, found.improved, found.start) == (9, 7, 0)


def test_a_window_in_drops_scattered_around_a_gain_is_never_empty_as_it_was() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        drops = rng.normal(0.2, 1, 300)
        assert rivals(drops, 5, 5)[0] == []
        assert len(window(drops, progress(5, 5, 10), 0.2, 0.025).inside) > 0


def test_two_boundaries_take_the_first_window_and_later_ones_than_there_are_the_last() -> None:
    assert progress(2, 2, 10) == 0
    assert progress(9, 5, 10) == 1
    with pytest.raises(ZeroDivisionError):
        rivals(DROPS, 1, 1)
    assert ours(2, 2) == [0]


def test_equal_drops_are_ranked_by_row() -> None:
    assert window([0.5, 1.0, 1.0, 0.5], 0.0, 0.5, 0.1).inside.tolist() == [1, 2]


def test_without_a_falling_loss_all_known_rows_weigh_the_same() -> None:
    found = window([-1.0, np.nan, -0.5], 0.0, 0.2, 0.025)
    assert found.log_weights.tolist() == [0.0, -np.inf, 0.0]
    assert found.inside.tolist() == []
    assert window([np.nan], 0.0, 0.2, 0.025).known == 0


@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=30),
    st.floats(0.01, 1),
    st.integers(2, 9),
    st.floats(0.01, 50),
    st.integers(-4, 4),
)
def test_windows_hold_no_rise_move_forward_and_ignore_a_constant(
    eighths: list[int], share: float, boundaries: int, steepness: float, constant: int
) -> None:
    before, now = np.zeros(len(eighths)), -np.asarray(eighths) / 8
    starts = []
    for boundary in range(2, boundaries + 1):
        place = progress(boundary, boundaries, steepness)
        found = window(before - now, place, share, 0.025)
        moved = window((before + constant) - (now + constant), place, share, 0.025)
        assert found.inside.tolist() == moved.inside.tolist()
        assert (np.asarray(eighths)[found.inside] >= 0).all()
        assert len(found.inside) > 0 or max(eighths) < 0
        starts.append(found.start)
    assert starts == sorted(starts)
