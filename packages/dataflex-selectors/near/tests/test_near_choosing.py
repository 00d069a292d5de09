"""The choice itself, on likenesses worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dataflex.math.aggregation import round_robin
from dataflex_selectors_near.choosing import Choice, Turns, choose, take_by_turns

TABLE = np.array(
    [
        [0.99, 0.98, 0.97, 0.96, 0.5, 0.4, 0.3, 0.2],
        [0.95, 0.94, 0.93, 0.92, 0.51, 0.41, 0.31, 0.21],
        [0.9, 0.1, 0.11, 0.12, 0.13, 0.6, 0.7, 0.8],
    ]
)


def vectors(table: np.ndarray, scale: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows whose products with unit queries are the table's numbers, times ``scale``."""
    count, total = table.shape
    rows = np.hstack([scale * table.T, np.zeros((total, total))])
    rows[np.arange(total), count + np.arange(total)] = np.sqrt(1 - (rows**2).sum(axis=1))
    return np.eye(count, rows.shape[1]), rows


def chosen(rule: Any, count: int, table: np.ndarray = TABLE, free: Any = None, **more: Any) -> Choice:
    queries, rows = vectors(table)
    turns = more.pop("turns", Turns([len(table)]))
    everything = np.ones(len(rows), bool) if free is None else free
    return choose(queries, turns, rows, rule, count, everything, **more)


def of_the_rival(table: np.ndarray, count: int) -> list[int]:
    """The wrong version: its matrix of neighbours is read by columns, and whose neighbour is taken loses the turn."""
    columns = np.argsort(-table, axis=1, kind="stable").T
    taken: list[int] = []
    for row in columns.ravel().tolist():
        if row not in taken and len(taken) < count:
            taken.append(row)
    return taken


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("round_robin", [0, 1, 7, 2, 3, 6, 4, 5]),
        ("max", [0, 1, 2, 3, 7, 6, 5, 4]),
        ("mean", [0, 1, 2, 3, 5, 6, 7, 4]),
    ],
)
def test_eight_rows_are_chosen_in_the_order_worked_out_by_hand(rule: str, expected: list[int]) -> None:
    for count in range(1, 9):
        assert chosen(rule, count).places.tolist() == expected[:count]


def test_a_query_whose_neighbour_is_taken_does_not_lose_its_turn() -> None:
    assert of_the_rival(TABLE, 8) == [0, 1, 7, 2, 6, 3, 5, 4]  # wrong
    assert chosen("round_robin", 8).places.tolist() != of_the_rival(TABLE, 8)


def test_the_next_boundary_goes_on_where_the_last_one_stopped() -> None:
    first = chosen("round_robin", 3)
    free = np.ones(8, bool)
    free[first.places] = False
    second = chosen("round_robin", 3, free=free, turn=first.turn)
    assert (first.places.tolist(), second.places.tolist()) == ([0, 1, 7], [2, 3, 6])
    assert [of_the_rival(TABLE, 3)] * 2 == [[0, 1, 7], [0, 1, 7]]  # wrong: nothing is remembered


def test_the_next_query_has_the_next_turn() -> None:
    first = chosen("round_robin", 2)
    assert (first.places.tolist(), first.turn) == ([0, 1], 2)
    free = np.ones(8, bool)
    free[first.places] = False
    assert chosen("round_robin", 1, free=free, turn=2).places.tolist() == [7]  # the third query's, not the first's


def test_rows_of_several_targets_take_turns_each_target_beginning_again() -> None:
    turns = Turns([2, 3])  # a0 a1 b0 b1 b2
    names = ["a0", "a1", "b0", "b1", "b2"]
    assert [names[turns.query(turn)] for turn in range(6)] == ["a0", "b0", "a1", "b1", "a0", "b2"]
    assert [names[turns.query(turn)] for turn in range(6, 12)] == ["a1", "b0", "a0", "b1", "a1", "b2"]
    assert [Turns([4]).query(turn) for turn in range(6)] == [0, 1, 2, 3, 0, 1]


def test_scores_are_the_highest_likeness_or_the_mean() -> None:
    np.testing.assert_allclose(chosen("round_robin", 2).scores, 0.5 * TABLE.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(chosen("max", 2).scores, 0.5 * TABLE.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(chosen("mean", 2).scores, 0.5 * TABLE.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("rule", ["round_robin", "max", "mean"])
def test_copies_come_in_the_order_of_rows(rule: str) -> None:
    queries, rows = vectors(np.full((1, 6), 0.7))
    rows[:] = rows[3]
    assert choose(queries, Turns([1]), rows, rule, 6, np.ones(6, bool)).places.tolist() == list(range(6))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["round_robin", "max", "mean"])
def test_when_no_row_is_free_all_are_again_but_none_comes_twice_in_a_stage(rule: str) -> None:
    free = np.zeros(8, bool)
    free[[5, 7]] = True
    found = chosen(rule, 5, free=free)
    assert set(found.places[:2].tolist()) == {5, 7}
    assert len(set(found.places.tolist())) == 5
    assert found.began_again
    assert found.again.tolist() == found.places[2:].tolist()
    whole = chosen(rule, 5)
    assert not whole.began_again
    assert whole.again.tolist() == whole.places.tolist()


@pytest.mark.parametrize("rule", ["round_robin", "max", "mean"])
def test_a_row_without_an_embedding_is_never_chosen(rule: str) -> None:
    queries, rows = vectors(TABLE)
    rows[[0, 3]] = np.nan
    found = choose(queries, Turns([3]), rows, rule, 6, np.ones(8, bool))  # type: ignore[arg-type]
    assert sorted(found.places.tolist()) == [1, 2, 4, 5, 6, 7]
    assert np.isnan(found.scores).nonzero()[0].tolist() == [0, 3]


def test_a_query_that_runs_out_of_neighbours_is_given_more() -> None:
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(40, 6)) * 0.01 + np.eye(1, 6)  # all want the same rows
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    rows = rng.normal(size=(400, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = choose(queries, Turns([40]), rows, "round_robin", 200, np.ones(400, bool))
    assert found.fetched > max(32, 2 * 5)
    assert found.places.tolist() == round_robin(np.rint(rows @ queries.T * 2**20), 200).tolist()
    few = np.argsort(-(queries @ rows.T), axis=1)[:, :3]
    assert take_by_turns(few, Turns([40]), 200) is None


def test_as_many_neighbours_are_looked_up_as_are_needed() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 6))
    found = choose(rows[:2], Turns([2]), rows, "round_robin", 50, np.ones(300, bool))
    assert found.fetched == 50  # 2 x 50 / 2
    assert choose(rows[:2], Turns([2]), rows, "round_robin", 4, np.ones(300, bool)).fetched == 32


def test_turns_of_one_target_are_the_round_robin_that_other_selectors_have() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        table = rng.uniform(0, 0.9, size=(rng.integers(1, 5), rng.integers(2, 12)))
        count = int(rng.integers(1, table.shape[1] + 1))
        scaled = np.rint(0.3 * table * 2**20)
        queries, rows = vectors(table, 0.3)
        found = choose(queries, Turns([len(table)]), rows, "round_robin", count, np.ones(table.shape[1], bool))
        assert found.places.tolist() == round_robin(scaled.T, count).tolist()


def test_the_mean_over_queries_is_one_product_with_their_mean() -> None:
    queries, rows = vectors(TABLE)
    found = choose(queries, Turns([3]), rows, "mean", 3, np.ones(8, bool))
    np.testing.assert_allclose(found.scores, rows @ queries.mean(axis=0), atol=1e-6)


def test_cosine_and_distance_rank_alike() -> None:
    queries, rows = vectors(TABLE)
    by_distance = np.argsort(np.linalg.norm(rows - queries[0], axis=1), kind="stable")
    found = choose(queries[:1], Turns([1]), rows, "round_robin", 8, np.ones(8, bool))
    assert found.places.tolist() == by_distance.tolist()
