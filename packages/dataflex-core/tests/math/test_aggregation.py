from __future__ import annotations

import numpy as np
import pytest

from dataflex.math.aggregation import aggregate, round_robin, take_in_turn

NAN, INF = float("nan"), float("inf")

QUERIES_SN = np.array(
    [
        [0.99, 0.98, 0.97, 0.96, 0.5, 0.4, 0.3, 0.2],
        [0.95, 0.94, 0.93, 0.92, 0.51, 0.41, 0.31, 0.21],
        [0.9, 0.1, 0.11, 0.12, 0.13, 0.6, 0.7, 0.8],
    ]
)


def by_columns(scores_NS: np.ndarray, num_samples: int) -> list[int]:
    """Wrong: a query whose next row is taken loses its turn."""
    found: list[int] = []
    for row_S in np.argsort(-scores_NS, axis=0, kind="stable"):
        found += [int(row) for row in dict.fromkeys(row_S.tolist()) if row not in found]
    return found[:num_samples]


def test_the_three_rules_rank_eight_rows_as_worked_out_by_hand() -> None:
    table_NS = QUERIES_SN.T.copy()
    assert round_robin(table_NS, 8).tolist() == [0, 1, 7, 2, 3, 6, 4, 5]
    assert np.argsort(-aggregate(table_NS, "max"), kind="stable").tolist() == [0, 1, 2, 3, 7, 6, 5, 4]
    assert np.argsort(-aggregate(table_NS, "mean"), kind="stable").tolist() == [0, 1, 2, 3, 5, 6, 7, 4]
    assert by_columns(table_NS, 8) == [0, 1, 7, 2, 6, 3, 5, 4]


def test_a_second_boundary_goes_on_with_the_next_query_and_the_rows_that_are_left() -> None:
    table_NS = QUERIES_SN.T.copy()
    first = round_robin(table_NS, 3)
    second = round_robin(table_NS, 3, first=len(first) % 3, taken=first.tolist())
    assert (first.tolist(), second.tolist()) == ([0, 1, 7], [2, 3, 6])
    assert round_robin(table_NS, 2, first=2).tolist() == [0, 1]


def test_equal_scores_go_to_the_lower_row() -> None:
    assert round_robin(np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.7]]), 3).tolist() == [0, 2, 1]


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
def test_a_row_without_a_score_for_one_target_has_none_and_comes_last(broken: float) -> None:
    table_NS = np.array([[broken, 9.0], [0.1, 0.2], [0.3, -0.4]])
    assert np.isnan(aggregate(table_NS, "max")).tolist() == [True, False, False]
    assert aggregate(table_NS, "mean")[1:].tolist() == pytest.approx([0.15, -0.05])
    assert round_robin(table_NS, 3).tolist() == [2, 1, 0]


def test_a_ranking_that_ends_passes_its_turns_on_and_too_few_rows_are_all_taken() -> None:
    assert take_in_turn([[4], [3, 2, 1, 0]], 4).tolist() == [4, 3, 2, 1]
    assert take_in_turn([[1, 0], [1, 0]], 5).tolist() == [1, 0]
    assert take_in_turn([], 2).tolist() == []
