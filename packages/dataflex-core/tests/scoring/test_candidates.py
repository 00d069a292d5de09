from __future__ import annotations

import numpy as np
import pytest

from dataflex.components.candidates import Candidates
from dataflex.errors import ConfigError
from dataflex.scoring.candidates import check_enough, draw_candidates, draw_of_groups, places_in_groups


@pytest.mark.parametrize("limit", [None, 10, 11])
def test_the_whole_pool_is_taken_without_a_draw(limit: int | None) -> None:
    rng = np.random.default_rng(0)
    assert draw_candidates(10, limit, rng).tolist() == list(range(10))
    assert rng.random() == np.random.default_rng(0).random()


def test_a_part_is_ascending_distinct_and_another_one_each_time() -> None:
    rng = np.random.default_rng(0)
    first, second = draw_candidates(100, 20, rng), draw_candidates(100, 20, rng)
    for rows in (first, second):
        assert len(rows) == 20 and (np.diff(rows) > 0).all() and rows.max() < 100
    assert first.tolist() != second.tolist()


def test_a_boundary_that_draws_more_than_there_is_says_what_to_change() -> None:
    check_enough(5, 5, 20, pool_size=5, limit=None)
    with pytest.raises(ConfigError, match=r"step 20 draws 6 .* 5 candidates \(the whole pool\)\. Lower update_step"):
        check_enough(5, 6, 20, pool_size=5, limit=None)
    with pytest.raises(ConfigError, match=r"\(max_candidates=5 of a pool of 9\)\. Raise .*, lower update_step.*, or x"):
        check_enough(5, 6, 20, pool_size=9, limit=5, advice=", or x")


def test_a_boundary_that_reads_rows_again_needs_fewer() -> None:
    check_enough(4, 10, 20, pool_size=4, limit=None, passes=3)
    with pytest.raises(
        ConfigError, match=r"draws 4 samples without replacement \(passes=3 of a stage of 10\), but .* 3"
    ):
        check_enough(3, 10, 20, pool_size=3, limit=None, passes=3)


def test_candidates_of_domains_share_the_limit_by_size_and_none_has_fewer_than_are_needed() -> None:
    groups = Candidates(("a", "b", "c"), tuple(map(np.arange, (0, 10, 100), (10, 100, 110))), (6, 9, 0))
    assert groups.num_samples == 15
    every = draw_of_groups(groups, None, np.random.default_rng(0))
    assert every.tolist() == list(range(100))  # nothing is needed of c
    rows = draw_of_groups(groups, 20, np.random.default_rng(0))
    assert [int((rows < 10).sum()), int((rows >= 10).sum())] == [6, 18]
    assert np.unique(rows).tolist() == rows.tolist()
    (a, six), (b, nine) = places_in_groups(groups, rows, 15)
    assert (six, nine) == (6, 9) and (rows[a] < 10).all() and (rows[b] >= 10).all()
    ((all_of_them, count),) = places_in_groups(None, rows, 4)
    assert count == 4 and all_of_them.tolist() == list(range(24))
