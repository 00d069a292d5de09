"""What a run's time goes to: parts, parts within parts, earlier parts of the run, other ranks."""

from __future__ import annotations

import pytest
import torch

from dataflex.trainers import clock as module
from dataflex.trainers.clock import CHECKPOINTS, DECISIONS, EVALUATION, Clock


@pytest.fixture
def time(monkeypatch):
    """A time that a test sets; CPU time goes twice as fast."""
    now = {"at": 0.0}
    monkeypatch.setattr(module.time, "perf_counter", lambda: now["at"])
    monkeypatch.setattr(Clock, "cpu", lambda self: 2 * now["at"])
    return now


def test_parts_are_counted_and_the_rest_is_training(time):
    clock = Clock()
    time["at"] = 1.0
    with clock.spending(EVALUATION):
        time["at"] = 4.0
    clock.add(DECISIONS, 0.5, 0.25)
    time["at"] = 10.0
    found = clock.read()
    assert (found["elapsed"], found["evaluation"], found["decisions"], found["checkpoints"]) == (10.0, 3.0, 0.5, 0.0)
    assert (found["cpu_elapsed"], found["cpu_evaluation"], found["cpu_decisions"]) == (20.0, 6.0, 0.25)


def test_a_part_within_a_part_is_counted_once(time):
    clock = Clock()
    with clock.spending(EVALUATION):
        time["at"] = 1.0
        with clock.spending(CHECKPOINTS):
            time["at"] = 3.0
    assert (clock.read()["evaluation"], clock.read()["checkpoints"]) == (3.0, 0.0)


def test_a_run_counts_on_from_its_earlier_part(time):
    clock = Clock()
    clock.go_on_from({"elapsed": 100.0, "decisions": 7.0})
    time["at"] = 2.0
    assert (clock.read()["elapsed"], clock.read()["decisions"], clock.read()["cpu_elapsed"]) == (102.0, 7.0, 4.0)


def test_cpu_seconds_are_those_of_all_ranks(time):
    class Three:
        num_processes, device = 3, "cpu"

        def reduce(self, numbers, reduction):
            return numbers + torch.full_like(numbers, 10.0)  # what the other two have spent

    clock = Clock(Three())
    time["at"] = 1.0
    assert clock.read()["cpu_elapsed"] == 2.0  # they have not met yet
    clock.meet()
    time["at"] = 2.0
    found = clock.read()
    assert (found["elapsed"], found["cpu_elapsed"], found["cpu_decisions"]) == (2.0, 14.0, 10.0)


def test_the_process_and_its_loader_workers_are_counted():
    from multiprocessing import get_context

    clock = Clock()
    before = clock.cpu()
    context = get_context("fork")
    ready, done = context.Event(), context.Event()
    worker = context.Process(target=_work, args=(ready, done))
    worker.start()
    ready.wait(60)
    while_it_runs = clock.cpu()
    done.set()
    worker.join()
    assert while_it_runs - before >= 0.2 and clock.cpu() >= while_it_runs - 0.05


def _work(ready, done):
    import time

    while time.process_time() < 0.3:
        sum(range(1000))
    ready.set()
    done.wait(60)
