"""Law, validation and mixture of RegMix: a hand-worked case, and what wrong versions make of it.

The case: three domains, twelve runs, two eval sets with losses ``exp(c) + exp(t.p)`` of known c and t. Noise of .002.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from dataflex.errors import ConfigError
from dataflex_mixers_regmix.draws import default_count, draw_mixture
from dataflex_mixers_regmix.law import fit_law, total
from dataflex_mixers_regmix.search import (
    Wanted,
    best_mixture,
    least_runs,
    predict_left_out,
    rank_correlation,
    require_correlation,
    search,
)

PRIOR = np.array([0.6, 0.1, 0.3])
FLOORS = np.array([1.6, 2.0])
SLOPES = np.array([[-1.2, -0.3, 0.5], [0.1, -1.5, -0.4]])
HALVES = np.array([0.5, 0.5])
TOKENS, WANTED_TOKENS, REPEATS = np.array([6e9, 0.2e9, 3e9]), 2e9, 4


def true_losses(mixtures):
    return FLOORS + np.exp(mixtures @ SLOPES.T)


@pytest.fixture(scope="module")
def runs():
    draw = np.random.default_rng(1)
    mixtures = draw.dirichlet(3 * PRIOR, 12)
    mixtures[:3] = 0.8 * np.eye(3) + 0.2 / 3
    return mixtures, true_losses(mixtures) + draw.normal(0, 0.002, (12, 2))


@pytest.fixture(scope="module")
def laws(runs):
    return [fit_law(runs[0], losses) for losses in runs[1].T]


def wanted(kl=0.0, most=(1.0, 1.0, 1.0)):
    return Wanted(prior_K=PRIOR, weights_M=HALVES, kl=kl, most_K=np.array(most))


def grid(step=200):
    """All mixtures in steps of half a percent."""
    return np.array([(a, b, step - a - b) for a in range(step + 1) for b in range(step + 1 - a)]) / step


CAPS = tuple(REPEATS * TOKENS / WANTED_TOKENS)


@pytest.mark.parametrize(
    ("kl", "most", "expected"),
    [
        (0.0, (1, 1, 1), (0.242, 0.758, 0)),
        (0.05, (1, 1, 1), (0.400, 0.600, 0)),
        (0.05, CAPS, (0.597, 0.400, 0.003)),
    ],
)
def test_the_mixture_is_that_of_the_hand_worked_case(laws, kl, most, expected) -> None:
    assert best_mixture(laws, wanted(kl, most)) == pytest.approx(expected, abs=0.01)


def test_the_mixture_is_the_best_of_a_grid(laws) -> None:
    def value(shares):
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = np.where(shares > 0, shares * np.log(shares / PRIOR), 0).sum(axis=-1)
        return total(laws, HALVES, shares) + 0.05 * kl

    allowed = grid()[(grid() <= np.array(CAPS) + 1e-9).all(axis=1)]
    best = allowed[np.argmin(value(allowed))]
    found = best_mixture(laws, wanted(0.05, CAPS))
    assert found == pytest.approx(best, abs=0.005) and value(found) <= value(best)


def test_the_law_without_noise_is_the_one_the_losses_were_made_by(runs) -> None:
    law = fit_law(runs[0], true_losses(runs[0])[:, 0])
    assert np.exp(law.log_floor) == pytest.approx(FLOORS[0], abs=1e-4)
    assert law.slopes_K == pytest.approx(SLOPES[0], abs=1e-4)
    assert grid()[np.argmin(total([law], np.array([1.0]), grid()))] == pytest.approx((1, 0, 0))


def test_the_law_beats_what_regmix_and_a_look_at_the_runs_would_choose(runs, laws) -> None:
    """True losses at: the best mixture 2.262, ours, the mean of the best 128 of 100,000 draws, the best run 2.3015."""
    truth = grid()[np.argmin(true_losses(grid()) @ HALVES)]
    assert truth == pytest.approx((0.25, 0.75, 0), abs=0.01) and true_losses(truth) @ HALVES == pytest.approx(
        2.262, abs=5e-4
    )
    draws = np.random.default_rng(0).dirichlet(np.ones(3), 100_000)
    regmix = draws[np.argsort(total(laws, HALVES, draws))[:128]].mean(axis=0)
    assert regmix == pytest.approx((0.239, 0.761, 0), abs=0.01)
    assert (true_losses(runs[0]) @ HALVES).min() == pytest.approx(2.3015, abs=5e-4)
    ours = best_mixture(laws, wanted())
    assert true_losses(ours) @ HALVES < 2.263


def test_a_linear_law_takes_one_domain_alone(runs) -> None:
    mixtures, losses = runs
    slopes = np.linalg.lstsq(mixtures, losses @ HALVES, rcond=None)[0]
    assert np.eye(3)[np.argmin(slopes)].tolist() == [0, 1, 0]


def test_without_caps_a_small_domain_would_be_read_eight_times_and_with_them_four(laws) -> None:
    def passes(shares):
        return shares[1] * WANTED_TOKENS / TOKENS[1]

    assert passes(best_mixture(laws, wanted(0.0))) == pytest.approx(7.6, abs=0.05)
    assert passes(best_mixture(laws, wanted(0.05, CAPS))) == pytest.approx(REPEATS)


def test_one_run_that_lies_far_off_hardly_moves_the_law(runs) -> None:
    """Huber: squares would follow a run that diverged."""
    mixtures, losses = runs
    spoiled = losses.copy()
    spoiled[7, 0] += 3.0
    answer = best_mixture([fit_law(mixtures, spoiled[:, m]) for m in range(2)], wanted(0.05))
    assert answer == pytest.approx((0.400, 0.600, 0), abs=0.03)


def test_runs_are_judged_by_laws_that_have_not_seen_them(runs) -> None:
    mixtures, losses = runs
    left_out = predict_left_out(mixtures, losses, HALVES)
    assert rank_correlation(left_out, losses @ HALVES) > 0.95
    few, noise, one = mixtures[:8], np.random.default_rng(1).uniform(2, 3, (8, 1)), np.ones(1)
    noisy = search(few, noise, Wanted(prior_K=PRIOR, weights_M=one, kl=0.05, most_K=np.ones(3)))
    in_sample = spearmanr(total(noisy.laws, one, few), noise[:, 0]).statistic
    assert noisy.correlation < 0 < 0.5 < in_sample  # losses that follow from nothing: fitted runs would let them pass
    with pytest.raises(ConfigError, match=r"left-out runs is -0\.\d\d, below 0.5.*--force"):
        require_correlation(noisy, force=False)
    require_correlation(noisy, force=True)


def test_runs_that_all_found_the_same_are_refused(runs) -> None:
    answer = search(runs[0], np.full((12, 2), 2.5), wanted())
    if not math.isnan(answer.correlation):  # rounding alone
        assert answer.correlation < 0.5
    with pytest.raises(ConfigError, match="cannot tell better mixtures from worse ones"):
        require_correlation(answer, force=False)


def test_too_few_runs_and_impossible_losses_are_refused(runs) -> None:
    mixtures, losses = runs
    assert least_runs(3) == 5 and least_runs(7) == 10
    with pytest.raises(ConfigError, match=r"4 runs are too few for 3 domains.*at least 5"):
        search(mixtures[:4], losses[:4], wanted())
    for bad in (np.nan, -0.1, 0.0):
        spoiled = losses.copy()
        spoiled[2, 1] = bad
        with pytest.raises(ConfigError, match="not finite or not above 0"):
            search(mixtures, spoiled, wanted())


def test_caps_that_leave_no_mixture_are_refused(laws) -> None:
    with pytest.raises(ConfigError, match=r"highest shares sum to 0.6, below 1.*Raise repeats, or lower wanted_tokens"):
        best_mixture(laws, wanted(0.05, (0.2, 0.2, 0.2)))


def test_a_run_draws_the_same_mixture_whatever_the_others_are() -> None:
    drawn = [draw_mixture(PRIOR, 42, run) for run in range(400)]
    assert drawn[7].tolist() == draw_mixture(PRIOR, 42, 7).tolist() != draw_mixture(PRIOR, 43, 7).tolist()
    assert len({tuple(shares) for shares in drawn}) > 300
    assert all(shares.sum() == pytest.approx(1) and not ((shares > 0) & (shares < 1e-3)).any() for shares in drawn)
    assert np.mean(drawn, axis=0) == pytest.approx(PRIOR, abs=0.05)
    assert any((shares > 0.99).any() for shares in drawn) and any((shares < 0.9).all() for shares in drawn)


def test_there_are_three_runs_a_domain_and_at_least_twenty() -> None:
    assert [default_count(domains) for domains in (2, 6, 7, 22)] == [20, 20, 21, 66]
