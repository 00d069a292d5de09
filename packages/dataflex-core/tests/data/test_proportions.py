"""Proportions are checked by name, and rules give the numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataflex.errors import ConfigError
from dataflex.mixing.proportions import check_proportions, in_millionths, stratified, temperature, uniform, unimax

NAMES = ("web", "code", "chat")
SOURCE = "init_mixture_proportions (from run.yaml)"


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 0.3, 0.2],
        (0.5, 0.3, 0.2),
        np.array([0.5, 0.3, 0.2]),
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64, requires_grad=True),
        {"chat": 0.2, "web": 0.5, "code": 0.3},
    ],
)
def test_proportions_come_in_many_forms_and_leave_in_the_order_of_the_domains(values):
    checked = check_proportions(values, NAMES, SOURCE)
    assert checked.dtype == np.float64 and checked.tolist() == [0.5, 0.3, 0.2]


def test_what_is_given_is_not_rescaled():
    assert check_proportions([0.333333, 0.333333, 0.333333], NAMES, SOURCE).tolist() == [0.333333] * 3


def test_the_answer_is_a_copy():
    mine = np.array([0.5, 0.3, 0.2])
    check_proportions(mine, NAMES, SOURCE)[0] = 9
    assert mine[0] == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [0.9, 0.9, 0.0],
            r"init_mixture_proportions \(from run.yaml\) must sum to 1, but sums to 1.8 \(web: 0.9, code: 0.9",
        ),
        ([0.5, 0.25, 0.249998], "sums to 0.999998"),
        ([0.5, 0.5], r"has 2 values for 3 domains \(web, code, chat\)"),
        ([[0.5, 0.3, 0.2]], r"an array of shape \[1, 3\]"),
        (1.0, r"an array of shape \[\]"),
        ([1.2, -0.2, 0.0], "finite and not negative, but has code: -0.2"),
        ([0.5, float("nan"), float("inf")], "code: nan, chat: inf"),
        ("0.5,0.3,0.2", r"is the text '0.5,0.3,0.2', not one number per domain \(web, code, chat\)"),
        ([0.5, "much", 0.2], "not one number per domain"),
        (None, r"an array of shape \[\]"),
        ({"web": 0.5, "cod": 0.3, "chat": 0.2}, "names the unknown domain 'cod'. Did you mean 'code'"),
        ({"web": 1.0}, "has no value for code, chat"),
    ],
)
def test_unusable_proportions_are_refused_with_the_domains_in_the_message(values, message):
    with pytest.raises(ConfigError, match=message):
        check_proportions(values, NAMES, SOURCE)


def test_a_thousand_domains_do_not_fill_the_screen():
    names = [f"domain-{k}" for k in range(1000)]
    with pytest.raises(ConfigError) as caught:
        check_proportions([0.5] * 1000, names, SOURCE)
    assert len(str(caught.value)) < 500


def test_stratified_is_by_size():
    assert stratified([30, 10]).tolist() == [0.75, 0.25]


def test_uniform_is_the_same_for_all():
    assert uniform(4).tolist() == [0.25] * 4


def test_temperature_two_takes_the_square_roots():
    assert temperature([1, 100], 2) == pytest.approx([1 / 11, 10 / 11])


def test_temperature_goes_from_stratified_to_uniform():
    assert temperature([1, 3], 1) == pytest.approx([0.25, 0.75])
    assert temperature([1, 3], math.inf) == pytest.approx([0.5, 0.5])
    assert temperature([1, 1000], 0.001) == pytest.approx([0, 1])


def test_unimax_caps_the_small_and_gives_the_rest_to_the_large():
    assert unimax([10, 100, 1000], 300, 1) * 300 == pytest.approx([10, 100, 190])
    assert unimax([1000, 10, 100], 300, 1) * 300 == pytest.approx([190, 10, 100])
    assert unimax([10, 100, 1000], 300, 4) * 300 == pytest.approx([40, 130, 130])


def test_unimax_with_more_budget_than_data_reads_everything_equally_often():
    assert unimax([10, 30], 1000, 2) == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize(
    "call",
    [
        lambda: temperature([1, 2], 0),
        lambda: temperature([1, 2], math.nan),
        lambda: unimax([1, 2], 0, 1),
        lambda: unimax([1, 2], 10, -1),
        lambda: stratified([0, 0]),
        lambda: stratified([1, -1]),
        lambda: stratified([]),
    ],
)
def test_a_rule_without_sense_is_refused(call):
    with pytest.raises(ConfigError):
        call()


def test_decimals_of_a_run_file_are_kept_exactly():
    assert in_millionths([0.7, 0.29, 0.01]).tolist() == [700_000, 290_000, 10_000]
    assert in_millionths([1 / 3] * 3).tolist() == [333_334, 333_333, 333_333]


def test_a_tiny_proportion_keeps_a_millionth_and_zero_stays_zero():
    assert in_millionths([1 - 1e-9, 1e-9, 0]).tolist() == [999_999, 1, 0]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).filter(lambda weights: sum(weights) > 1e-3))
def test_millionths_sum_to_a_million_and_are_next_to_what_was_given(weights):
    proportions = np.array(weights) / math.fsum(weights)
    parts = in_millionths(proportions)
    assert parts.sum() == 1_000_000
    assert (parts[proportions > 0] > 0).all() and (parts[proportions == 0] == 0).all()
    assert np.abs(parts - proportions * 1e6).max() <= 1 + len(weights)
