"""Orders go by rank: what was worked out by hand, and what the likely mistakes would give in its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.errors import ComponentError
from dataflex.math.ordering import (
    Whole,
    by_ranks,
    permutation_of,
    rank_correlation,
    ranked,
    relative_ranks,
    score_by_tenth,
    thinned,
    window_shuffle,
)

NAN = np.nan
SCORES = [0.5, NAN, 0.1, 0.9, 0.5, 0.3, NAN]


def folding(n: int, layers: int = 3) -> Whole:
    return np.array([rank for first in range(layers) for rank in range(first, n, layers)], np.int64)


def test_rows_without_a_score_stand_in_the_middle() -> None:
    assert ranked(SCORES).tolist() == [2, 5, 1, 6, 0, 4, 3]
    assert ranked(SCORES, "descending").tolist() == [3, 0, 1, 6, 4, 5, 2]
    assert ranked([NAN, NAN, NAN]).tolist() == [0, 1, 2]
    assert ranked([NAN, np.inf, 0.5, -np.inf]).tolist() == [0, 1, 3, 2]  # what is not finite is no score
    assert ranked([]).tolist() == []


def test_ties_keep_their_places_in_both_directions() -> None:
    assert ranked([1, 1, 0], "descending").tolist() == [0, 1, 2]
    assert np.argsort([1, 1, 0], kind="stable")[::-1].tolist() == [1, 0, 2]  # dataflex 1.1.0 reverses ties


def test_another_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="direction 'up'"):
        ranked([1.0], "up")


def test_a_short_pass_thins_the_ranks_and_not_the_places() -> None:
    kept = thinned(12, 8)
    assert kept.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert kept[folding(8)].tolist() == [0, 5, 9, 2, 6, 11, 3, 8]
    assert folding(12)[kept].tolist() == [0, 6, 9, 4, 7, 2, 5, 11]  # thinning the places: another shape


@given(rows=st.integers(0, 80), places=st.integers(0, 80))
def test_thinned_ranks_are_distinct_and_lie_alike_from_both_ends(rows: int, places: int) -> None:
    if places > rows:
        with pytest.raises(ValueError, match="without repeating"):
            thinned(rows, places)
        return
    kept = thinned(rows, places)
    assert len(set(kept.tolist())) == places and np.all(np.diff(kept) > 0)
    assert not places or (kept[0] >= 0 and kept[-1] < rows)
    if places == rows:
        assert kept.tolist() == list(range(rows))


def test_scores_that_change_move_rows_and_leave_the_shape() -> None:
    scores, sigma = np.arange(12.0), folding(12)
    first = by_ranks(ranked(scores), sigma)
    assert first.tolist() == sigma.tolist()
    left = np.setdiff1d(np.arange(12), first[:4])
    assert by_ranks(left[ranked(scores[left])], sigma[4:]).tolist() == first[4:].tolist()
    scores[[1, 11]] = scores[[11, 1]]
    assert by_ranks(left[ranked(scores[left])], sigma[4:]).tolist() == [11, 4, 7, 10, 2, 5, 8, 1]


def test_a_pattern_made_anew_at_each_boundary_loses_its_shape() -> None:
    """The mistake of dataflex 1.1.0: folding what is left, in fours, with unchanged scores."""
    left, served = list(range(12)), []
    while left:
        some = [left[rank] for rank in folding(len(left))][:4]
        served += some
        left = [row for row in left if row not in some]
    assert served == [0, 3, 6, 9, 1, 5, 10, 2, 4, 11, 7, 8]
    assert served != folding(12).tolist()


def test_relative_ranks_are_those_among_what_is_left() -> None:
    assert relative_ranks([7, 10, 2]).tolist() == [1, 2, 0]


@given(n=st.integers(0, 40), window=st.integers(0, 12))
def test_a_window_shuffles_within_blocks_alone(n: int, window: int) -> None:
    places = window_shuffle(n, window, np.random.default_rng(1)).tolist()
    width = max(window, 1)
    assert all(place // width == at // width for at, place in enumerate(places))
    assert sorted(places) == list(range(n))


def test_windows_are_shuffled_each_in_its_own_way() -> None:
    places = window_shuffle(4000, 8, np.random.default_rng(1)).reshape(-1, 8) % 8
    assert len({tuple(block) for block in places.tolist()}) > 400


def test_an_answer_has_to_hold_each_row_once() -> None:
    rows = np.array([4, 2, 9])
    assert permutation_of([9, 4, 2], rows, "its order()").tolist() == [9, 4, 2]
    for answer, said in (
        ([9, 4], "shape .2. for 3 rows"),
        ([9, 9, 4], "returned 9 twice"),
        ([9, 4, 3], "returned 3, which it was not given and left out 2"),
        ([9.0, 4.0, 2.0], "float64 values"),
    ):
        with pytest.raises(ComponentError, match=said):
            permutation_of(answer, rows, "its order()")


def test_a_row_that_was_given_twice_has_to_come_back_twice() -> None:
    assert permutation_of([4, 2, 4], np.array([4, 4, 2]), "it").tolist() == [4, 2, 4]
    with pytest.raises(ComponentError, match="returned 2 twice"):
        permutation_of([4, 2, 2], np.array([4, 4, 2]), "it")


def test_the_record_shows_the_shape_of_an_order() -> None:
    assert score_by_tenth(np.arange(20.0)) == [0.5 + 2 * tenth for tenth in range(10)]
    assert score_by_tenth([NAN, *[1.0] * 9]) == [None, *[1.0] * 9]
    assert rank_correlation(np.arange(5.0)) == pytest.approx(1)
    assert rank_correlation([5.0, 4.0, NAN, 1.0]) == pytest.approx(-1)
    assert rank_correlation([1.0, 1.0]) is None and rank_correlation([1.0]) is None
    assert rank_correlation([1.0, 3.0, 2.0]) == pytest.approx(0.5)  # 1 - 6 (0 + 1 + 1) / (3 x 8)
    assert rank_correlation([1.0, 1.0, 2.0]) == pytest.approx(3**0.5 / 2)  # ranks .5 .5 2
