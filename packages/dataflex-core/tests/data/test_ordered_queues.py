"""Domains are put in order each on its own places: proportions and turns stay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.ordering import Floats, Order, Whole, by_ranks
from dataflex.mixing.ordered_queues import OrderedQueues


def folding(layers: int) -> Order:
    def order(number: int, length: int, served: int, left: Whole, scores: Floats) -> Whole:
        sigma = np.array([rank for first in range(layers) for rank in range(first, length, layers)], np.int64)
        return by_ranks(left, np.roll(sigma, number)[served:])

    return order


def queues(layers: int = 1, names: str = "ab", direction: str = "ascending") -> OrderedQueues:
    return OrderedQueues(names, lambda domain, rows: folding(layers), direction=direction)


def serve(source: OrderedQueues, turns: str) -> list[int]:
    row, rows = np.zeros(1, np.int64), []
    for turn in turns:
        source.take(source.names.index(turn), row)
        rows.append(int(row[0]))
    return rows


def test_an_order_keeps_every_turn() -> None:
    """Rows 0 10 1 2 11 3 of a b a a b a."""
    source = queues()
    source.fill(0, [0, 1, 2, 3], np.array([0.9, 0.1, 0.5, 0.3]))
    source.fill(1, [10, 11], np.array([0.05, 0.01]))
    assert serve(source, "abaaba") == [1, 11, 3, 2, 10, 0]
    scores = {0: 0.9, 10: 0.05, 1: 0.1, 2: 0.5, 11: 0.01, 3: 0.3}
    assert sorted(scores, key=scores.__getitem__) == [11, 10, 1, 3, 2, 0]  # over the whole plan: every batch changes


def test_an_order_keeps_the_mixture_of_every_batch() -> None:
    source = queues()
    source.fill(0, range(4), np.arange(4.0))
    source.fill(1, range(4, 8), np.arange(4.0, 8.0))
    rows = serve(source, "abababab")
    assert [sum(row < 4 for row in rows[start : start + 4]) for start in (0, 4)] == [2, 2]
    stage = sorted(rows)  # by score over the whole stage: batches of one domain
    assert [sum(row < 4 for row in stage[start : start + 4]) for start in (0, 4)] == [4, 0]


def test_a_queue_begins_again_and_is_ranked_anew() -> None:
    source = queues(layers=2)
    source.fill(0, [5, 6, 7, 8], np.arange(4.0), number=1)
    lengths = np.arange(20)
    assert list(source.lengths_ahead(0, lengths, 6)) == [8, 5, 7, 6, 6, 8]  # rolled by the number of the pass
    assert serve(source, "aaaaaa") == [8, 5, 7, 6, 6, 8]
    assert source.served.tolist() == [6, 0] and source.recycled.tolist() == [2, 0]


def test_present_scores_move_what_is_left_of_one_domain() -> None:
    source = queues()
    source.fill(0, range(4), np.arange(4.0))
    source.fill(1, range(4, 8), np.arange(4.0))
    assert serve(source, "ab") == [0, 4]
    assert source.to_score(0, 3).tolist() == [1, 2, 3]
    source.score(0, np.array([0.0, 3.0, 2.0, 1.0]))
    assert source.rest(0)[0].tolist() == [3, 2, 1]
    assert serve(source, "ababab") == [3, 5, 2, 6, 1, 7]


def test_an_empty_queue_says_so() -> None:
    source = queues()
    source.fill(0, [])
    assert list(source.lengths_ahead(0, np.zeros(3, np.int64), 2)) == []
    with pytest.raises(ValueError, match="domain 'a' is empty"):
        serve(source, "a")


@given(
    turns=st.text("ab", max_size=30),
    cut=st.integers(0, 30),
    layers=st.integers(1, 3),
    scores=st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=9, max_size=9),
)
def test_a_resume_anywhere_changes_nothing(turns: str, cut: int, layers: int, scores: list[float]) -> None:
    values = np.array(scores)

    def fresh() -> OrderedQueues:
        source = queues(layers, direction="descending")
        source.fill(0, range(5), values[:5])
        source.fill(1, range(5, 9), values[5:])
        return source

    whole, first, second = serve(fresh(), turns), fresh(), queues(layers, direction="descending")
    before = serve(first, turns[:cut])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + serve(second, turns[cut:]) == whole
    for name, offset, size in (("a", 0, 5), ("b", 5, 4)):
        own = [row for row, turn in zip(whole, turns, strict=True) if turn == name][:size]
        assert len(set(own)) == len(own) and all(offset <= row < offset + size for row in own)
