"""A queue in order: passes, boundaries, short passes, extended runs, domains, and what a checkpoint keeps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.ordering import Floats, Order, Whole, by_ranks
from dataflex.mixing.ordered_rows import OrderedRows


def by_folding(layers: int = 3) -> Order:
    """An orderer as the trainers hand it in, for the pattern folding."""

    def order(number: int, length: int, served: int, left: Whole, scores: Floats) -> Whole:
        sigma = np.array([rank for first in range(layers) for rank in range(first, length, layers)], np.int64)
        return by_ranks(left, sigma[served:])

    return order


def queue(size: int = 12, places: int | None = None, order: Order | None = None) -> OrderedRows:
    made = OrderedRows(size, order or by_folding(), places=places)
    made.score(np.arange(float(size)))
    return made


STATIC = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]


def test_boundaries_go_on_with_the_pass() -> None:
    rows = queue()
    served = []
    for _ in range(3):
        rows.score(np.arange(12.0))
        served += rows.take(4).tolist()
    assert served == STATIC
    assert served != [0, 3, 6, 9, 1, 5, 10, 2, 4, 11, 7, 8]  # the pattern made anew on what is left


def test_scores_that_changed_move_what_is_left() -> None:
    rows = queue()
    assert rows.take(4).tolist() == STATIC[:4]
    scores = np.arange(12.0)
    scores[[1, 11]] = scores[[11, 1]]
    rows.score(scores)
    assert rows.rest().tolist() == [11, 4, 7, 10, 2, 5, 8, 1]
    assert rows.take(8).tolist() == [11, 4, 7, 10, 2, 5, 8, 1]


def test_a_run_that_is_shorter_than_a_pass_sees_both_ends() -> None:
    assert queue(places=8).take(8).tolist() == [0, 5, 9, 2, 6, 11, 3, 8]


def test_only_the_last_pass_is_thinned() -> None:
    rows = queue(places=20)
    assert rows.take(20).tolist() == [*STATIC, 0, 5, 9, 2, 6, 11, 3, 8]


def test_nothing_is_thinned_where_the_length_is_unknown() -> None:
    assert queue().take(20).tolist() == [*STATIC, *STATIC[:8]]


def test_a_finished_run_that_is_extended_reads_what_was_left_out() -> None:
    rows = queue(places=8)
    rows.take(8)
    rows.extend(12)
    assert rows.take(4).tolist() == [1, 10, 4, 7]  # 1 4 7 10 folded over the four places left


def test_an_extended_run_ranks_what_is_left_over_the_places_left() -> None:
    rows = queue(places=8)
    assert rows.take(4).tolist() == [0, 5, 9, 2]
    rows.extend(12)
    assert rows.take(8).tolist() == [1, 6, 10, 3, 7, 11, 4, 8]  # 1 3 4 6 7 8 10 11 folded over eight places
    assert sorted(rows.take(12).tolist()) == list(range(12))


def test_an_extension_beyond_a_whole_pass_leaves_the_pass_alone() -> None:
    rows = queue(places=12)
    rows.take(4)
    rows.extend(20)
    assert rows.take(16).tolist() == [*STATIC[4:], 0, 5, 9, 2, 6, 11, 3, 8]


def test_rows_are_ordered_on_the_places_of_their_own_domain() -> None:
    """Rows 0 10 1 2 11 3 of a b a a b a: turns stay, each domain's queue is in order."""
    plan, turns = [0, 10, 1, 2, 11, 3], "abaaba"
    scores = {0: 0.9, 10: 0.05, 1: 0.1, 2: 0.5, 11: 0.01, 3: 0.3}
    queues, rows = {}, {}
    for name in "ab":
        rows[name] = [row for row, turn in zip(plan, turns, strict=True) if turn == name]
        queues[name] = queue(len(rows[name]), order=by_folding(1))
        queues[name].score(np.array([scores[row] for row in rows[name]]))
    served = [rows[turn][int(queues[turn].take(1)[0])] for turn in turns]
    assert served == [1, 11, 3, 2, 10, 0]
    assert sorted(plan, key=scores.__getitem__) == [11, 10, 1, 3, 2, 0]  # over the whole plan: batches change


def test_what_has_to_be_scored_is_what_the_next_rows_depend_on() -> None:
    rows = queue(places=20)
    assert rows.to_score(4).tolist() == list(range(12))  # a pass begins
    rows.take(4)
    assert rows.to_score(4).tolist() == [1, 2, 4, 5, 7, 8, 10, 11]
    assert rows.to_score(9).tolist() == list(range(12))  # the next one does
    short = queue(places=8)
    short.take(4)
    assert short.to_score(4).tolist() == [3, 6, 8, 11]  # of the plan, not all that were not read


@given(
    size=st.integers(1, 20),
    parts=st.lists(st.integers(0, 13), max_size=8),
    places=st.none() | st.integers(1, 60),
    layers=st.integers(1, 4),
    direction=st.sampled_from(["ascending", "descending"]),
    data=st.data(),
)
def test_parts_resumes_and_boundaries_change_nothing(
    size: int, parts: list[int], places: int | None, layers: int, direction: str, data: st.DataObject
) -> None:
    few = st.sampled_from([0.0, 1.0, np.nan]) | st.floats(-3, 3)  # ties, and rows without a score
    scores = np.array(data.draw(st.lists(few, min_size=size, max_size=size)))
    scored_again = data.draw(st.booleans())

    def fresh() -> OrderedRows:
        made = OrderedRows(size, by_folding(layers), direction=direction, places=places)
        made.score(scores)
        return made

    whole, broken, served = fresh().take(sum(parts)), fresh(), []
    for part in parts:
        if scored_again:
            broken.score(scores)
        served += broken.take(part).tolist()
        state = json.loads(json.dumps(broken.state_dict()))
        broken = fresh()
        broken.load_state_dict(state)
    assert served == whole.tolist()
    ends = [min(size, places) if places else size]
    assert len(set(whole[: ends[0]].tolist())) == min(len(whole), ends[0])  # no row twice in a pass


def test_an_orderer_that_is_no_pattern_is_not_asked_differently_after_a_resume() -> None:
    def by_draw(number: int, length: int, served: int, left: Whole, scores: Floats) -> Whole:
        return np.random.default_rng(number).permutation(np.sort(left))

    whole, rows = queue(order=by_draw), queue(order=by_draw)
    rows.take(5)
    resumed = queue(order=by_draw)
    resumed.load_state_dict(rows.state_dict())
    assert resumed.take(20).tolist() == whole.take(25)[5:].tolist()


def test_the_scores_come_back_bit_for_bit() -> None:
    rows, other = queue(), queue()
    rows.score(np.array([*np.random.default_rng(0).random(11), np.nan]))
    other.unpack_scores(rows.pack_scores())
    assert np.array_equal(rows.scores, other.scores, equal_nan=True)


def test_many_rows_are_kept_in_a_few_bytes() -> None:
    rows = OrderedRows(100_000, by_folding(), places=150_000)
    rows.score(np.random.default_rng(0).random(100_000))
    assert len(np.unique(rows.take(100_000))) == 100_000
    assert len(json.dumps(rows.state_dict())) < 40_000


def test_a_queue_has_rows_and_a_score_for_each() -> None:
    with pytest.raises(ValueError, match="without rows"):
        OrderedRows(0, by_folding())
    with pytest.raises(ValueError, match="queue of 12 rows"):
        queue().score(np.zeros(3))


def test_a_new_pass_is_ordered_under_its_own_number() -> None:
    asked: list[Any] = []

    def order(number: int, length: int, served: int, left: Whole, scores: Floats) -> Whole:
        asked.append((number, length, served, len(left)))
        return left

    rows = OrderedRows(5, order, places=8)
    rows.take(3)
    rows.score(np.zeros(5))
    rows.take(5)
    assert asked == [(0, 5, 0, 5), (0, 5, 3, 2), (1, 3, 0, 3)]
