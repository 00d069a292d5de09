"""The mixture of MixMin: a hand-worked case, an independent solver, and what wrong versions make of it."""

from __future__ import annotations

import numpy as np
import pytest

from dataflex_mixers_mixmin.solve import best_shares, sample_weights, solve, target_loss

LOGS = np.array([(-2, -9, -4, -3), (-6, -3, -5, -3.2), (-7, -8, -4.5, -9)]).T  # four texts, three models
LENGTHS = np.array([2, 3, 2, 2])
WEIGHTS = sample_weights(LENGTHS)


def exponentiated(logs, weights, rounds=100):
    """The paper's own rounds of w <- w exp(-grad), normalised, from uniform."""
    shares = np.full(logs.shape[1], 1 / logs.shape[1])
    for _ in range(rounds):
        shares = shares * np.exp(-target_loss(shares, logs, weights)[1])
        shares /= shares.sum()
    return shares


def test_the_mixture_is_that_of_the_hand_worked_case() -> None:
    shares, loss = solve(LOGS, WEIGHTS)
    assert shares == pytest.approx((0.71559, 0.28441, 0), abs=1e-5)
    assert loss == pytest.approx(1.551574, abs=1e-6)
    assert -target_loss(shares, LOGS, WEIGHTS)[1] == pytest.approx((0.458333, 0.458333, 0.095891), abs=1e-5)


def test_the_papers_rounds_find_the_same() -> None:
    assert exponentiated(LOGS, WEIGHTS, 20_000) == pytest.approx(solve(LOGS, WEIGHTS)[0], abs=1e-5)
    random = np.random.default_rng(4).normal(-20, 3, (50, 4))
    weights = sample_weights(np.random.default_rng(5).integers(5, 40, 50))
    ours, loss = solve(random, weights)
    theirs = exponentiated(random, weights, 20_000)
    assert ours == pytest.approx(theirs, abs=1e-3) and loss <= target_loss(theirs, random, weights)[0] + 1e-9


def test_a_hundred_rounds_come_as_close_as_the_page_says() -> None:
    assert exponentiated(LOGS, WEIGHTS) == pytest.approx((0.71559, 0.28441, 0), abs=2e-3)


def test_mixing_logarithms_would_take_one_model_alone() -> None:
    linear = WEIGHTS @ LOGS
    assert np.eye(3)[np.argmax(linear)].tolist() == [1, 0, 0]


def test_the_gradient_is_that_of_the_loss() -> None:
    shares, step = np.array([0.5, 0.3, 0.2]), 1e-6
    numeric = [
        (target_loss(shares + step * one, LOGS, WEIGHTS)[0] - target_loss(shares - step * one, LOGS, WEIGHTS)[0])
        / (2 * step)
        for one in np.eye(3)
    ]
    assert target_loss(shares, LOGS, WEIGHTS)[1] == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize(("lengths", "expected"), [((2, 2, 2, 2), (0.75, 0.25, 0)), (LENGTHS, (9 / 11, 2 / 11, 0))])
def test_for_long_texts_the_mixture_is_how_often_each_model_is_best(lengths, expected) -> None:
    """Of texts of one length the share of the texts; else each counts as 1 over its tokens."""
    weights = sample_weights(50 * np.array(lengths))
    assert best_shares(LOGS, weights) == pytest.approx(expected)
    assert solve(50 * LOGS, weights)[0] == pytest.approx(expected, abs=0.01)


def test_probabilities_that_no_float_holds_give_finite_losses() -> None:
    loss, gradient = target_loss(np.array([1.0, 0.0]), np.array([[-9000.0, -8000.0]]), np.array([1e-4]))
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_a_probability_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        solve(np.array([[np.nan, -1.0]]), np.array([1.0]))
