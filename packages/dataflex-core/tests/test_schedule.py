"""Stages and boundaries: CONTRACTS of the step keys."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.errors import ConfigError
from dataflex.runs import Steps
from dataflex.schedule import Schedule, resolve

steps = st.integers(0, 60)
updates = st.integers(1, 40)


def test_total_is_warmup_plus_updates():
    schedule = resolve(Steps(warmup=200, update=1000, times=2), epochs=3, pool_size=10, global_batch=8)
    assert schedule.total == 2200
    assert list(schedule.boundaries) == [200, 1200]


def test_endless_updates_take_the_epochs():
    schedule = resolve(Steps(warmup=4, update=10, times=-1), epochs=2.5, pool_size=81, global_batch=8)
    assert schedule.total == 28  # ceil(2.5 * ceil(81 / 8)) = ceil(2.5 * 11)
    assert list(schedule.stages()) == [(0, 4), (4, 14), (14, 24), (24, 28)]


def test_train_step_replaces_the_total_and_the_last_stage_may_be_short():
    schedule = resolve(Steps(warmup=2, update=5, times=9, train=10), epochs=1, pool_size=99, global_batch=1)
    assert list(schedule.stages()) == [(0, 2), (2, 7), (7, 10)]
    assert schedule.longest_update == 5


def test_a_single_short_stage_draws_only_what_it_trains_on():
    assert Schedule(warmup=2, update=50, total=10).longest_update == 8


def test_without_warmup_the_first_decision_is_at_step_zero():
    schedule = Schedule(warmup=0, update=3, total=6)
    assert list(schedule.boundaries) == [0, 3]
    assert [schedule.stage_at(step) for step in range(6)] == [1, 1, 1, 2, 2, 2]


def test_a_schedule_without_a_boundary_is_refused():
    with pytest.raises(ConfigError, match="has no boundary: warmup_step=5"):
        resolve(Steps(warmup=5, update=3, train=5), epochs=1, pool_size=40, global_batch=4)


@pytest.mark.parametrize(
    ("steps", "max_steps", "total"),
    [(Steps(warmup=0, train=7), 5, 7), (Steps(warmup=0), 5, 5), (Steps(warmup=0), -1, 20)],
    ids=["train_step", "max_steps", "two epochs of ten steps"],
)
def test_a_run_without_boundaries_is_one_stage(steps, max_steps, total):
    schedule = resolve(steps, epochs=2, pool_size=40, global_batch=4, max_steps=max_steps)
    assert list(schedule.boundaries) == []
    assert list(schedule.stages()) == [(0, total)]
    assert {schedule.stage_at(step) for step in range(total)} == {0}


@given(warmup=steps, update=updates, extra=st.integers(1, 200))
def test_stages_tile_the_run_and_boundaries_open_them(warmup, update, extra):
    schedule = Schedule(warmup, update, warmup + extra)
    stages = list(schedule.stages())
    assert stages[0][0] == 0 and stages[-1][1] == schedule.total
    assert all(left[1] == right[0] for left, right in itertools.pairwise(stages))
    assert list(schedule.boundaries) == [first for first, _ in stages[1:]]
    assert schedule.total not in schedule.boundaries
    for step in range(schedule.total):
        first, end = schedule.bounds(schedule.stage_at(step))
        assert first <= step < end


@given(warmup=steps, update=updates, extra=st.integers(1, 200), more=st.integers(0, 100))
def test_a_longer_run_agrees_with_the_shorter_one(warmup, update, extra, more):
    short, long = Schedule(warmup, update, warmup + extra), Schedule(warmup, update, warmup + extra + more)
    assert all(long.agrees_up_to(short, step) for step in range(short.total + 1))


def test_another_update_step_disagrees_after_the_first_boundary():
    assert Schedule(4, 10, 40).agrees_up_to(Schedule(4, 5, 40), 8)
    assert not Schedule(4, 10, 40).agrees_up_to(Schedule(4, 5, 40), 9)
