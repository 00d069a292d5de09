"""Queues serve what was chosen, all of it before any of it again; a mixture draws from them what it would draw."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflex.mixing.ordered_queues import OrderedQueues
from dataflex.mixing.packed import packed, unpacked
from dataflex.mixing.queues import Queues
from dataflex.mixing.sampler import MixtureSampler, Unit

SIZES = [30, 50, 20]
NAMES = ["a", "b", "c"]


def shares(draw: Any, count: int) -> np.ndarray:
    raw = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count).filter(any))
    return np.array(raw, float) / sum(raw)


def filled(sampler: MixtureSampler, counts: Any, *, key: int | None = None) -> Queues:
    queues = Queues(sampler.names, seed=3)
    for domain, count in enumerate(counts):
        queues.fill(domain, sampler.offsets[domain] + np.arange(count), key=key)
    return queues


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_expected_by_samples_is_what_is_drawn(data: Any) -> None:
    limit = data.draw(st.sampled_from([None, 1.0, 2.5]))
    sampler = MixtureSampler(SIZES, NAMES, seed=1, max_epochs=limit)
    for _ in range(data.draw(st.integers(1, 4))):
        p, count = shares(data.draw, 3), data.draw(st.integers(0, 12))
        if limit is not None:
            p = np.full(3, 1 / 3)
        before = sampler.counts
        expected = sampler.expected(p, count)
        assert (sampler.counts == before).all()  # nothing is drawn by asking
        sampler.draw(p, count)
        assert (sampler.counts - before).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shares_are_those_of_the_mixture_whatever_the_queues_hold(data: Any) -> None:
    p, count = shares(data.draw, 3), data.draw(st.integers(1, 60))
    own, from_queues = (MixtureSampler(SIZES, NAMES, seed=1) for _ in range(2))
    sizes = [data.draw(st.integers(1, size)) for size in SIZES]
    plain = own.draw(p, count)
    queues = filled(from_queues, sizes)
    drawn = from_queues.draw(p, count, queues)
    assert own.domain_of(plain).tolist() == from_queues.domain_of(drawn).tolist()
    assert own.state() == from_queues.state()
    for domain, size in enumerate(sizes):
        served = drawn[from_queues.domain_of(drawn) == domain]
        times = np.bincount(served - from_queues.offsets[domain], minlength=size)
        assert times.max(initial=0) - times[:size].min() <= 1  # every row once before any twice
        assert queues.recycled[domain] == max(len(served) - size, 0)


def test_by_tokens_turns_follow_the_lengths_of_the_rows_served() -> None:
    lengths = np.concatenate([np.full(30, 2), np.full(50, 6), np.full(20, 4)])
    sampler = MixtureSampler(SIZES, NAMES, seed=1, unit=Unit.TOKENS, lengths=lengths)
    expected = sampler.expected([0.5, 0.5, 0.0], 40)
    drawn = sampler.draw([0.5, 0.5, 0.0], 40, filled(sampler, SIZES))
    tokens = [int(lengths[drawn[sampler.domain_of(drawn) == domain]].sum()) for domain in range(3)]
    assert abs(tokens[0] - tokens[1]) <= 6 and tokens[2] == 0
    assert expected.tolist() == [30, 10, 0]  # three rows of two tokens for one of six


def test_a_kept_part_is_read_in_passes_of_other_orders() -> None:
    sampler = MixtureSampler([8], ["a"], seed=1)
    queues = filled(sampler, [5], key=40)
    passes = sampler.draw([1.0], 15, queues).reshape(3, 5)
    assert all(sorted(row) == list(range(5)) for row in passes.tolist())
    assert len({tuple(row) for row in passes.tolist()}) > 1
    other = filled(sampler, [5], key=50)
    assert MixtureSampler([8], ["a"], seed=1).draw([1.0], 15, other).tolist() != passes.ravel().tolist()


@pytest.mark.parametrize("done", range(0, 23, 3))
def test_queues_go_on_from_their_state(done: int) -> None:
    whole, first = (filled(MixtureSampler([8], ["a"], seed=1), [5], key=7) for _ in range(2))
    ahead = np.empty(23, np.int64)
    whole.take(0, ahead)
    served = np.empty(done, np.int64)
    first.take(0, served)
    later = Queues(["a"], seed=3)
    later.load_state_dict(json.loads(json.dumps(first.state_dict())))
    lengths = np.arange(8)
    known = list(later.lengths_ahead(0, lengths, 23 - done))
    rest = np.empty(23 - done, np.int64)
    later.take(0, rest)
    assert [*served, *rest] == ahead.tolist()
    assert known == lengths[rest].tolist()


def test_a_queue_that_nothing_was_put_into_takes_the_spare_rows_or_says_so() -> None:
    with pytest.raises(ValueError, match="the queue of domain 'a' is empty"):
        Queues(["a"]).take(0, np.empty(1, np.int64))
    queues = Queues(["a"], spare=lambda domain: [4, 2])
    rows = np.empty(3, np.int64)
    queues.take(0, rows)
    assert rows.tolist() == [4, 2, 4]
    assert list(itertools.islice(Queues(["a"]).lengths_ahead(0, np.arange(3), 2), 2)) == []


def test_arrays_are_packed_bit_for_bit_and_other_texts_refused() -> None:
    for values in (np.arange(5), np.array([0.1, np.nan]), np.zeros(0, np.int64)):
        assert np.array_equal(unpacked(packed(values)), values, equal_nan=values.dtype.kind == "f")
        assert unpacked(packed(values)).dtype == values.dtype
    with pytest.raises(ValueError, match="not an array"):
        unpacked("<i8:aGFsbG8=")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_rows_weight_is_that_of_its_place_and_all_places_come_before_any_comes_again(data: Any) -> None:
    p, count = shares(data.draw, 3), data.draw(st.integers(1, 40))
    sampler, ordered = MixtureSampler(SIZES, NAMES, seed=1), data.draw(st.booleans())
    chosen = [data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9)) for size in SIZES]  # some twice
    queues: Any = Queues(NAMES, seed=3)
    if ordered:
        queues = OrderedQueues(
            NAMES, lambda domain, rows: lambda number, n, m, left, scores: left, direction="ascending"
        )
    key = {} if ordered else {"key": data.draw(st.sampled_from([None, 4]))}
    for domain, rows in enumerate(chosen):
        weights = np.arange(len(rows), dtype=float)  # which name the place
        queues.fill(domain, sampler.offsets[domain] + np.array(rows), weights=weights, **key)
    places = []
    for _ in range(2):
        queues.weights.begin()
        drawn = sampler.draw(p, count, queues)
        of = sampler.domain_of(drawn)
        weights = queues.weights.of(of)
        assert [chosen[d][int(w)] + sampler.offsets[d] for d, w in zip(of, weights, strict=True)] == drawn.tolist()
        places += list(zip(of.tolist(), weights.tolist(), strict=True))
        state = json.loads(json.dumps(queues.state_dict()))
        queues.load_state_dict(state)
    for domain, rows in enumerate(chosen):
        times = [places.count((domain, float(place))) for place in range(len(rows))]
        assert max(times) - min(times) <= 1
