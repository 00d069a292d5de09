"""Rows read several times in one stage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.components.context import RunContext
from dataflex.math.rereading import per_pass, read_again


def rng_of(number: int) -> np.random.Generator:
    return RunContext(dataset=[], data_collator=list, seed=3).rng(20, "pass", number)


def same_order_each_time(rows: npt.ArrayLike, num_samples: int, passes: int) -> list[int]:
    """Wrong: nothing new in the second pass."""
    return np.tile(np.asarray(rows), passes)[:num_samples].tolist()


def first_pass_cut(rows: npt.ArrayLike, num_samples: int, passes: int) -> list[int]:
    """Wrong: the rows cut off come once less than they might, and the last ones chosen come last."""
    orders = [rng_of(number).permutation(np.asarray(rows)) for number in range(1, passes + 1)]
    return np.concatenate(orders)[-num_samples:].tolist()


@pytest.mark.parametrize(
    ("num_samples", "passes", "rows"),
    [(240, 3, 80), (10, 3, 4), (10, 4, 3), (4, 3, 2), (1, 3, 1), (7, 1, 7), (0, 2, 0)],
)
def test_a_stage_is_divided_among_the_passes_and_rounded_up(num_samples: int, passes: int, rows: int) -> None:
    assert per_pass(num_samples, passes) == rows


def test_no_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read 0 times"):
        per_pass(4, 0)


def test_one_pass_leaves_the_rows_as_they_are_and_draws_nothing() -> None:
    def refuse(number: int) -> np.random.Generator:
        raise AssertionError("one pass draws nothing")

    assert read_again([5, 2, 5, 9], 4, 1, refuse).tolist() == [5, 2, 5, 9]


def test_ten_rows_of_three_passes_are_four_four_and_two() -> None:
    plan = read_again([5, 2, 7, 9], 10, 3, rng_of).tolist()
    assert sorted(plan[:4]) == sorted(plan[4:8]) == [2, 5, 7, 9]
    assert plan[8:] == rng_of(3).permutation([5, 2, 7, 9])[:2].tolist()
    assert len({tuple(plan[:4]), tuple(plan[4:8])}) == 2
    assert plan != same_order_each_time([5, 2, 7, 9], 10, 3) and plan != first_pass_cut([5, 2, 7, 9], 10, 3)


@given(st.integers(1, 60), st.integers(1, 7))
def test_no_row_comes_twice_within_a_pass(num_samples: int, passes: int) -> None:
    count = per_pass(num_samples, passes)
    plan = read_again(np.arange(count) * 3, num_samples, passes, rng_of)
    assert len(plan) == num_samples
    for start in range(0, num_samples, count):
        one = plan[start : start + count]
        assert len(set(one.tolist())) == len(one)
        assert len(one) == count or start + count >= num_samples


def test_another_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="4 rows read 3 times fill a stage of 10"):
        read_again(range(10), 10, 3, rng_of)
