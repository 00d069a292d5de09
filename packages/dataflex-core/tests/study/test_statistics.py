"""Comparisons, by numbers worked out by hand in the design of ``dataflex study``, and the wrong ways to get them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dataflex.study.curve import Curve, Outside
from dataflex.study.paired import corrected_over_arms, holm, paired
from dataflex.study.worth import worth

RANDOM = {1: 4.70, 2: 4.90, 3: 4.60, 4: 4.80, 5: 5.00}
ARM = {1: 4.65, 2: 4.84, 3: 4.57, 4: 4.73, 5: 4.96}
THIRD_FAILED = {1: 4.69, 2: 4.88, 4: 4.79, 5: 4.96}
LENGTHS = Curve.through([(50, 4.80), (100, 4.70), (200, 4.60), (400, 4.55)])


def test_five_paired_seeds_give_the_interval_and_p_worked_out_by_hand():
    found = paired(RANDOM, ARM, lower=True)
    assert found.n == 5 and found.better == 5
    assert found.mean == pytest.approx(0.05)
    assert found.sd == pytest.approx(0.0158114, abs=1e-7)
    assert found.interval == pytest.approx((0.0303676, 0.0696324), abs=1e-7)
    assert found.p == pytest.approx(0.0021106, abs=1e-7)


def test_an_unpaired_test_of_the_same_numbers_would_see_nothing():
    unpaired = stats.ttest_ind(list(RANDOM.values()), list(ARM.values()), equal_var=False)
    assert unpaired.pvalue == pytest.approx(0.626, abs=5e-4)
    assert paired(RANDOM, ARM, lower=True).p < 0.05


def test_a_failed_seed_is_left_out_of_both_sides_so_the_sign_is_right():
    found = paired(RANDOM, THIRD_FAILED, lower=True)
    assert (found.n, found.better, list(found.seeds)) == (4, 4, [1, 2, 4, 5])
    assert found.mean == pytest.approx(0.02)
    means = [sum(values.values()) / len(values) for values in (RANDOM, THIRD_FAILED)]
    assert means[0] - means[1] == pytest.approx(-0.03)  # what two means without pairing would say


def test_below_five_seeds_there_is_no_interval_and_no_p():
    found = paired(RANDOM, THIRD_FAILED, lower=True)
    assert (found.interval, found.p, found.p_holm) == (None, None, None)
    assert corrected_over_arms({"arm": found})["arm"].p_holm is None


def test_one_seed_has_a_gain_and_no_spread():
    found = paired(RANDOM, {3: 4.5}, lower=True)
    assert found.mean == pytest.approx(0.1) and found.sd is None


def test_where_higher_is_better_the_gain_is_arm_minus_baseline():
    found = paired(RANDOM, ARM, lower=False)
    assert found.mean == pytest.approx(-0.05) and found.better == 0
    assert found.interval == pytest.approx((-0.0696324, -0.0303676), abs=1e-7)


def test_gains_that_are_all_alike_give_no_nan():
    found = paired(dict.fromkeys(range(5), 2.0), dict.fromkeys(range(5), 1.5), lower=True)
    assert found.mean == 0.5 and found.interval == (0.5, 0.5) and found.p in (0.0, None)
    level = paired(dict.fromkeys(range(5), 2.0), dict.fromkeys(range(5), 2.0), lower=True)
    assert level.p is None


def test_holm_raises_each_p_by_the_tests_that_are_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(ps):
    after = holm(ps)
    assert all(before <= now <= 1 for before, now in zip(ps, after, strict=True))
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    assert [after[index] for index in order] == sorted(after)


def test_holm_is_over_the_arms_that_have_a_p():
    found = corrected_over_arms(
        {"one": paired(RANDOM, ARM, lower=True), "few": paired(RANDOM, THIRD_FAILED, lower=True)}
    )
    assert found["one"].p_holm == pytest.approx(0.0021106, abs=1e-7)
    twice = corrected_over_arms(dict.fromkeys(("one", "two"), paired(RANDOM, ARM, lower=True)))
    assert twice["two"].p_holm == pytest.approx(2 * 0.0021106, abs=1e-6)


def test_between_lengths_the_baseline_is_linear_in_the_logarithm_of_cost():
    assert LENGTHS.at(141.4214) == pytest.approx(4.65, abs=1e-6)
    assert LENGTHS.at(141.4214) != pytest.approx(4.6586, abs=1e-3)  # linear in cost
    assert LENGTHS.at(141.4214) - 4.62 == pytest.approx(0.03, abs=1e-6)


def test_at_the_length_of_a_run_it_is_that_run():
    assert [LENGTHS.at(steps) for steps in (50, 100, 200, 400)] == [4.80, 4.70, 4.60, 4.55]


def test_nothing_is_extrapolated():
    assert LENGTHS.at(49.9) is Outside.BELOW and LENGTHS.at(401) is Outside.ABOVE
    assert Curve.through([]).at(10) is Outside.BELOW


def test_points_that_are_no_numbers_are_left_out_of_the_curve():
    curve = Curve.through([(100, 4.7), (50, math.nan), (200, None), (None, 4.0), (400, 4.5)])
    assert curve.points == ((100, 4.7), (400, 4.5))


def test_rho_and_the_inequality_are_those_worked_out_by_hand():
    found = worth(LENGTHS, value=4.62, steps=100, training=100, deciding=41.4214, lower=True)
    assert found.rho == pytest.approx(1.74110, abs=1e-5)
    assert found.allowed == pytest.approx(74.11, abs=5e-3) and found.deciding < found.allowed
    assert found.pays is True
    dear = worth(LENGTHS, value=4.62, steps=100, training=100, deciding=74.2, lower=True)
    assert dear.pays is False


def test_rho_takes_the_first_crossing_of_a_curve_that_comes_back():
    curve = Curve.through([(100, 5.0), (200, 4.0), (400, 4.8), (800, 3.0)])
    assert worth(curve, value=4.5, steps=100, training=100, deciding=0, lower=True).rho == pytest.approx(2**0.5)


def test_outside_the_lengths_rho_is_a_bound_in_words():
    better = worth(LENGTHS, value=4.0, steps=50, training=50, deciding=349, lower=True)
    assert better.spelt == "more than 8" and better.pays is True and better.allowed == 350
    dearer = worth(LENGTHS, value=4.0, steps=50, training=50, deciding=351, lower=True)
    assert dearer.pays is None  # more than 8 may be enough
    worse = worth(LENGTHS, value=4.9, steps=100, training=100, deciding=1, lower=True)
    assert worse.spelt == "less than 0.5" and worse.pays is False


def test_the_first_length_itself_is_no_bound():
    assert worth(LENGTHS, value=4.8, steps=50, training=50, deciding=0, lower=True).rho == 1.0


def test_rho_of_a_metric_that_rises():
    curve = Curve.through([(100, 0.1), (400, 0.5)])
    assert worth(curve, value=0.3, steps=100, training=100, deciding=0, lower=False).rho == pytest.approx(2.0)


def test_without_a_baseline_in_the_seed_there_is_nothing_to_judge():
    assert worth(Curve.through([]), value=1.0, steps=10, training=10, deciding=0, lower=True) is None
