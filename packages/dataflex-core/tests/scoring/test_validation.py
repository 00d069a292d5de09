"""``max_validation``: a few rows of each target, drawn once, the same after a resume and for a screen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dataflex.components.context import RunContext
from dataflex.components.passes import Subtask
from dataflex.errors import ComponentError
from dataflex.rng import stream
from dataflex.scoring.validation import ValidationRows, names_of

CONTEXT = RunContext(dataset=[], data_collator=list, seed=7)


def target(name: str, size: int) -> Subtask:
    return Subtask(name, None, np.arange(100, 100 + size))


def rows(found: list[Subtask]) -> list[list[int]]:
    return [each.rows.tolist() for each in found]


def test_without_a_limit_nothing_is_drawn_or_kept() -> None:
    kept, given = ValidationRows(CONTEXT, None), [target("a", 3)]
    assert kept.of(given)[0] is given[0]
    assert kept.state_dict() == {}


def test_rows_are_a_function_of_seed_and_target() -> None:
    expected = [
        sorted(100 + stream(7, 0, "validation", name).choice(size, 4, replace=False, shuffle=False))
        for name, size in (("a", 30), ("b", 9))
    ]
    kept = ValidationRows(CONTEXT, 4)
    assert rows(kept.of([target("a", 30), target("b", 9)])) == expected
    assert rows(kept.of([target("b", 9), target("a", 30)])) == expected[::-1]
    screen = ValidationRows(dataclasses.replace(CONTEXT, streams=("screen/less",)), 4)
    assert rows(screen.of([target("a", 30), target("b", 9)])) == expected
    other = ValidationRows(dataclasses.replace(CONTEXT, seed=8), 4)
    assert rows(other.of([target("a", 30)])) != expected[:1]


def test_a_small_target_is_taken_whole() -> None:
    assert rows(ValidationRows(CONTEXT, 4).of([target("a", 3), target("b", 4)])) == [
        [100, 101, 102],
        [100, 101, 102, 103],
    ]


def test_what_was_drawn_is_taken_up_again() -> None:
    kept = ValidationRows(CONTEXT, 2)
    kept.load_state_dict({"validation/a": np.array([1, 5]), "history_step": 3})
    assert rows(kept.of([target("a", 8)])) == [[101, 105]]
    np.testing.assert_array_equal(kept.state_dict()["validation/a"], [1, 5])
    with pytest.raises(ComponentError, match="'a' has 4 rows now, and row 5 of it was drawn"):
        kept.of([target("a", 4)])


def test_targets_of_one_name_are_told_apart() -> None:
    pieces = [target("x", 30), target("x", 30), target("x-2", 4)]
    assert names_of(pieces) == ["x", "x-2", "x-2-2"]
    first, second, _ = rows(ValidationRows(CONTEXT, 5).of(pieces))
    assert first != second
