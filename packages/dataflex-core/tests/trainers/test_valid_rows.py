"""A selector's answer is checked before it is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dataflex.errors import ComponentError
from dataflex.trainers.planners.select import valid_rows


@pytest.mark.parametrize(
    "answer", [[2, 0, 1], (2, 0, 1), np.array([2, 0, 1]), np.array([2.0, 0.0, 1.0]), torch.tensor([2, 0, 1])]
)
def test_rows_may_come_as_any_sequence(answer):
    rows = valid_rows(answer, 3, 3)
    assert rows.dtype == np.int64 and rows.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0, 1], r"returned shape \[2\] where 3 row indices were asked for"),
        ([[0, 1, 2]], r"returned shape \[1, 3\]"),
        ([0, 1, 3], "returned row 3 at position 2; the pool has rows 0 to 2"),
        ([0, -1, 1], "returned row -1 at position 1"),
        ([0, 1, float("nan")], "returned nan at position 2; row indices are integers"),
        ([0, 1, float("inf")], "returned inf at position 2"),
        ([0, 0.5, 1], "returned 0.5 at position 1"),
        (["a", "b", "c"], "values; row indices are integers"),
        ([True, False, True], "bool values; row indices are integers"),
        (None, "returned NoneType, not a list of row indices"),
        ({0, 1, 2}, "returned set, not a list of row indices"),
        (iter([0, 1, 2]), "returned list_iterator, not a list of row indices"),
        ([[0], [1, 2], [3]], "returned list, not a list of row indices"),
    ],
)
def test_an_unusable_answer_is_named(answer, message):
    with pytest.raises(ComponentError, match=message):
        valid_rows(answer, 3, 3)
