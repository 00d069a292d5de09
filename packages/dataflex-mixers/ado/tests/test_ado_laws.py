"""The laws and the rule of the mixer ado, with numbers worked out by hand, and what wrong versions of it give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from dataflex_mixers_ado.laws import DELTA, aim, fit, speeds

LAWS = np.array([[10, 1.8, 0.30], [20, 2.0, 0.45], [3, 1.7, 0.10]])
PRIOR = np.array([0.6, 0.3, 0.1])
SAMPLES = 256 * 1000.0
RHO = [0.802617, 0.131477, 0.065907]


def points(count: int) -> np.ndarray:
    """Samples in the middle of blocks of ten steps of 256, from step 500 on."""
    return 256 * (500 + 10 * np.arange(count) + 5.5)


def losses(law: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return law[1] + law[0] * samples ** -law[2]


def noisy(law: np.ndarray, samples: np.ndarray, size: float, seed: int) -> np.ndarray:
    return losses(law, samples) * np.exp(size * np.random.default_rng(seed).standard_normal(len(samples)))


def test_the_aim_is_that_of_the_worked_example() -> None:
    rho = aim(PRIOR, PRIOR, speeds(LAWS, SAMPLES), credit=0.5, least=0.01)
    assert rho == pytest.approx(RHO, abs=1e-6)
    assert 0.1 * rho + 0.9 * PRIOR == pytest.approx([0.620262, 0.283148, 0.096591], abs=1e-6)


def test_wrong_versions_of_the_rule_give_other_aims() -> None:
    factors, floors, exponents = LAWS.T

    def shares(weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = weights / weights.sum()
        return found

    powers = factors * SAMPLES**-exponents
    own = SAMPLES * PRIOR  # each domain by the count of its own samples
    own_counts = shares(PRIOR**1.5 * exponents * factors * own**-exponents / own)
    no_credit = aim(PRIOR, PRIOR, speeds(LAWS, SAMPLES), credit=0, least=0.01)
    whole_loss = shares(PRIOR**1.5 * exponents * (floors + powers))
    older_credit = shares(PRIOR * np.sqrt(PRIOR * (1 - PRIOR)) * exponents * powers)
    assert own_counts == pytest.approx([0.496, 0.240, 0.264], abs=1e-3)
    assert no_credit == pytest.approx([0.698, 0.162, 0.140], abs=1e-3)
    assert whole_loss == pytest.approx([0.638, 0.344, 0.018], abs=1e-3)
    assert older_credit == pytest.approx([0.746340, 0.161732, 0.091928], abs=1e-6)
    for wrong in (own_counts, no_credit, whole_loss, older_credit):
        assert np.abs(wrong - RHO).max() > 0.02


def test_an_exponent_below_a_twentieth_counts_as_one() -> None:
    law = np.array([[3.0, 1.0, 0.01]])
    assert speeds(law, 100.0) == pytest.approx([0.05 * 3 * 100**-0.01 / 100])


def test_a_domain_without_a_law_is_learned_as_fast_as_the_others_on_average() -> None:
    found = speeds(np.array([LAWS[0], LAWS[1], [np.nan] * 3]), SAMPLES)
    assert found[2] == pytest.approx((found[0] + found[1]) / 2)
    assert np.isnan(speeds(np.full((2, 3), np.nan), SAMPLES)).all()


def test_where_nothing_is_learned_the_aim_is_the_prior() -> None:
    assert aim(PRIOR, PRIOR, np.zeros(3), credit=0.5, least=0.01) == pytest.approx(PRIOR)


@given(st.lists(st.floats(1e-9, 1e3), min_size=2, max_size=8), st.floats(0, 0.1), st.floats(0, 1))
def test_aims_are_mixtures_that_follow_the_speeds(found: list[float], least: float, credit: float) -> None:
    even = np.full(len(found), 1 / len(found))
    shares = aim(even, even, np.array(found), credit=credit, least=least)
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    assert shares.min() >= least / (1 + len(found) * least) - 1e-12
    order = np.argsort(found)
    assert (np.diff(shares[order]) >= -1e-12).all()


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("count", [20, 100, 250])
def test_a_law_without_noise_is_found_exactly(law: np.ndarray, count: int) -> None:
    samples = points(count)
    found = fit(samples, losses(law, samples))
    assert found == pytest.approx(law, rel=1e-5)


def test_many_points_are_averaged_to_few_without_moving_the_law() -> None:
    samples = points(6000)
    found = fit(samples, losses(LAWS[0], samples))
    assert found is not None
    assert speeds(found[None], SAMPLES) == pytest.approx(speeds(LAWS[:1], SAMPLES), rel=0.02)


def huber_cost(law: np.ndarray, samples: np.ndarray, seen: np.ndarray) -> float:
    size = np.abs(np.log(losses(law, samples) / seen))
    return float(np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum())


@pytest.mark.parametrize("seed", range(4))
def test_scipy_finds_no_better_law(seed: int) -> None:
    samples, unit = points(60), points(60).mean()
    seen = noisy(LAWS[0], samples, 0.003, seed)

    def errors(at: np.ndarray) -> np.ndarray:
        return np.log((at[1] + at[0] * (samples / unit) ** -at[2]) / seen)

    starts = [(0.1, 1.9, 0.1), (0.3, 1.7, 0.3), (0.2, 1.8, 0.6)]
    bounds = ([0, 0, 0.01], [np.inf, np.inf, 0.8])
    tries = [least_squares(errors, start, loss="huber", f_scale=DELTA, bounds=bounds).x for start in starts]
    theirs = min(huber_cost(np.array([at[0] * unit ** at[2], at[1], at[2]]), samples, seen) for at in tries)
    ours = fit(samples, seen)
    assert ours is not None
    assert huber_cost(ours, samples, seen) <= theirs * 1.003


def test_spoilt_points_hardly_move_the_law_where_least_squares_runs_away() -> None:
    samples = points(100)
    seen = losses(LAWS[0], samples)
    seen[90:95] *= 1.3
    found = fit(samples, seen)
    assert found is not None
    assert speeds(found[None], SAMPLES) == pytest.approx(speeds(LAWS[:1], SAMPLES), rel=0.02)
    powers = np.stack([np.ones(100), samples**-0.3], axis=1)
    _, slope = np.linalg.lstsq(powers, seen, rcond=None)[0]
    assert abs(slope / 10 - 1) > 0.2  # even with the exponent given


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_one_percent_leaves_the_speed_near_the_truth_at_the_end_of_a_long_run(seed: int) -> None:
    samples = points(6000)
    found = fit(samples, noisy(LAWS[0], samples, 0.01, seed))
    assert found is not None
    assert speeds(found[None], samples[-1]) == pytest.approx(speeds(LAWS[:1], samples[-1]), rel=0.1)


def test_a_floor_below_the_bound_of_the_released_code_is_found_which_there_means_a_speed_of_0() -> None:
    law, samples = np.array([10, 0.6, 0.30]), points(100)
    seen = losses(law, samples)
    assert fit(samples, seen) == pytest.approx(law, rel=1e-5)

    def errors(at: np.ndarray) -> np.ndarray:
        return np.log((at[1] + at[0] * samples**-0.3) / seen)

    bounds = ([0, np.exp(0.5)], [np.inf, np.inf])  # e is e^.5 = 1.65 nats at least
    factor = least_squares(errors, (0.5, 1.7), loss="huber", f_scale=DELTA, bounds=bounds).x[0]
    assert 0.3 * factor * SAMPLES**-0.3 < 1e-3 < 0.07 < 0.3 * 10 * SAMPLES**-0.3


def test_a_domain_that_gets_worse_has_no_speed() -> None:
    found = fit(points(50), np.linspace(2.0, 3.0, 50))
    assert found is not None and found[0] == 0
    assert speeds(found[None], SAMPLES) == [0]


def test_fewer_than_ten_points_make_no_law_and_missing_ones_are_left_out() -> None:
    samples = points(40)
    seen = losses(LAWS[0], samples)
    seen[::2] = np.nan
    assert fit(samples, seen) == pytest.approx(LAWS[0], rel=1e-5)
    seen[19:] = np.nan
    assert np.isfinite(seen).sum() == 9 and fit(samples, seen) is None


def test_a_loss_of_nothing_is_survived() -> None:
    found = fit(points(30), np.zeros(30))
    assert found is not None and np.isfinite(found).all()
