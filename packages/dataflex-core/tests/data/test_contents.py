"""Hashes of rows: equal for equal contents however they are stored, and for nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from dataflex.data.fingerprint import contents, fingerprint
from dataflex.errors import ConfigError

ROWS = [
    {"input_ids": list(range(row + 1)), "labels": [-100] * row + [row], "source": f"web {row}"} for row in range(30)
]
SOME = np.array([3, 4, 5, 20])


def stored(rows: list[dict[str, Any]] = ROWS) -> Dataset:
    return Dataset.from_list(rows)


def test_contents_do_not_depend_on_how_the_table_lies_in_memory() -> None:
    pieces = concatenate_datasets([stored(ROWS[:4]), stored(ROWS[4:21]), stored(ROWS[21:])])
    shuffled = stored([ROWS[29 - place] for place in range(30)]).select(range(29, -1, -1))
    for rows in (SOME, np.arange(5, 15), np.arange(30), np.arange(0)):
        assert len({contents(data, rows) for data in (stored(), stored(), pieces, shuffled)}) == 1


@pytest.mark.parametrize("change", [{"input_ids": [0, 1, 2, 4]}, {"labels": [-100] * 4}, {"source": "code 3"}])
def test_any_change_of_a_row_is_seen_and_a_change_of_another_row_is_not(change: dict[str, Any]) -> None:
    edited, other = list(ROWS), list(ROWS)
    edited[3] = ROWS[3] | change
    other[6] = ROWS[6] | change
    assert contents(stored(edited), SOME) != contents(stored(), SOME) == contents(stored(other), SOME)


def test_the_same_contents_under_other_row_numbers_or_in_a_longer_pool_are_others() -> None:
    twice = stored([ROWS[3]] * 30)
    assert contents(twice, np.array([0])) != contents(twice, np.array([1]))
    assert contents(stored(ROWS), SOME) != contents(stored(ROWS[:29]), SOME)


def test_rows_that_are_no_table_are_read_one_by_one() -> None:
    assert contents(ROWS, SOME) == fingerprint(ROWS, SOME)
    made = stored().with_transform(lambda batch: {"input_ids": [[1]] * len(batch["source"])})
    assert contents(made, SOME) == fingerprint(made, SOME)


def test_rows_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ConfigError, match="rows 3 to 99 of the pool could not be read"):
        contents(stored(), np.array([3, 99]))
