"""What is logged of weights: since the last entry, and not lost by a resume."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dataflex.components.weight_context import WeightedStep
from dataflex.math.weighting import HISTOGRAM_EDGES, weight_histogram
from dataflex.trainers.losses.weight_log import WeightLog


def step(number: int, *weights: float) -> WeightedStep:
    ones = np.ones(len(weights))
    return WeightedStep(step=number, losses=ones, tokens=ones, weights=np.array(weights))


def bins(counts: list[int]) -> dict[int, int]:
    """Counts by the octave in which a bin begins."""
    found: dict[int, int] = {}
    for edge, count in zip(HISTOGRAM_EDGES[:-1], counts, strict=True):
        octave = int(np.floor(np.log2(edge) + 1e-9))
        found[octave] = found.get(octave, 0) + count
    return {octave: count for octave, count in found.items() if count}


def test_weights_are_counted_in_octaves_and_none_is_lost_at_the_ends():
    counts = weight_histogram(np.array([0.0, 1e-9, 0.3, 1.0, 1.9, 5.0, 64.0, 1e9]))
    assert bins(counts.tolist()) == {-6: 2, -2: 1, 0: 2, 2: 1, 5: 2}


def test_the_histogram_holds_the_steps_since_the_entry_before_and_is_taken_once():
    log = WeightLog()
    log.add(step(1, 1.0, 1.0))
    log.add(step(2, 0.3, 5.0))
    assert log.take()["weight_mean"] == pytest.approx((1.0 + 2.65) / 2)
    assert bins(log.take_histogram()) == {-2: 1, 0: 2, 2: 1}
    assert log.take_histogram() == []
    log.add(step(3, 5.0))
    log.take()
    assert bins(log.take_histogram()) == {2: 1}


def test_a_resumed_log_goes_on_counting():
    log, resumed = WeightLog(), WeightLog()
    log.add(step(1, 1.0))
    resumed.load_state_dict(json.loads(json.dumps(log.state_dict())))
    for each in (log, resumed):
        each.add(step(2, 0.3))
        each.take()
    assert resumed.take_histogram() == log.take_histogram()


def test_weights_that_are_not_known_make_no_histogram():
    log = WeightLog()
    log.add(step(1, float("nan")))
    assert "weight_mean" not in log.take()
    assert log.take_histogram() == []


def noted(number: int, *scores: float) -> WeightedStep:
    ones = np.ones(len(scores))
    return WeightedStep(step=number, losses=ones, tokens=ones, weights=ones, noted=np.array(scores))


def test_the_spread_of_what_is_noted_is_over_all_samples_since_the_last_entry():
    log, resumed = WeightLog(), WeightLog()
    log.add(noted(1, 1.0, 3.0))
    resumed.load_state_dict(json.loads(json.dumps(log.state_dict())))
    resumed.add(noted(2, 5.0))
    entries = resumed.take()
    assert (entries["score_mean"], entries["score_sd"]) == pytest.approx((3.0, (8 / 3) ** 0.5))
    resumed.add(step(3, 1.0))
    assert "score_mean" not in resumed.take()
