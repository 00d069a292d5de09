"""What a selection costs, and what it may cost: the quickstart's numbers, worked by hand."""

from __future__ import annotations

import pytest

from dataflex.errors import ConfigError
from dataflex.math.selection_cost import Budget, RowCost, enough_survivors, screens_of

THREE = Budget(steps=110, boundaries=3, batch=8, beta=2.0)
ONE = Budget(steps=110, boundaries=1, batch=8, beta=2.0)
LEXICAL, RDS = RowCost(forward=0.0), RowCost(forward=0.2)


def less(validation: int) -> RowCost:
    return RowCost(backward=True, validation=2 * validation)


def test_the_costs_of_the_quickstart() -> None:
    # three boundaries of 1600 rows and 128 validation rows, batch 8: 3 (1600 + 256) / 8
    assert round(THREE.cost(1600, less(128))) == 696
    # once, 240 rows that a screen without a model leaves, 32 validation rows: (240 + 64) / 8
    assert round(ONE.cost(240, less(32), screened=1600, screens=1, screen=LEXICAL)) == 38
    # the same behind a fifth of a forward pass over 1600 rows
    assert round(ONE.cost(240, less(32), screened=1600, screens=1, screen=RDS)) == 51


def test_a_loss_costs_a_forward_pass() -> None:
    assert THREE.cost(1600, RowCost()) == pytest.approx(3 * 1600 / 3 / 8)
    adapters = Budget(steps=110, boundaries=3, batch=8, beta=1.0)
    assert adapters.cost(1600, RowCost()) == pytest.approx(3 * 1600 / 2 / 8)


def test_a_screen_that_scores_at_each_boundary_is_paid_for_each_time() -> None:
    assert [screens_of(5, every) for every in (0, 1, 2, 5, 9)] == [1, 5, 3, 1, 1]
    once = THREE.cost(240, less(32), screened=1600, screens=1, screen=RDS)
    thrice = THREE.cost(240, less(32), screened=1600, screens=3, screen=RDS)
    assert thrice - once == pytest.approx(2 * 1600 * 0.2 / 3 / 8)


def test_an_index_is_paid_for_once_whoever_asks_for_it() -> None:
    # 1600 rows and 32 of the target at a fifth of a forward pass: 1632 / 5 / 3 / 8
    once = RowCost(forward=0.2, rows=1632, times=1)
    assert THREE.cost(999, once) == ONE.cost(0, once) == pytest.approx(13.6)
    assert THREE.cost(999, RowCost(forward=0.2, rows=1632)) == pytest.approx(3 * 13.6)
    behind_it = THREE.cost(240, less(32), screened=1600, screens=3, screen=once)
    assert behind_it - THREE.cost(240, less(32)) == pytest.approx(13.6)
    allowed, of_aims, of_index = 110 * 0.62 * 8, 2 * 32, 1632 * 0.2 / 3
    found = THREE.survivors(1.62, less(32), screened=1600, screens=3, screen=once)
    assert found == int((allowed - of_index) / 3 - of_aims)


def test_a_direction_is_paid_for_as_often_as_it_is_made() -> None:
    # influence, 32 rows of the target: 8 steps of 8 each time, whatever the boundaries are
    made = [RowCost(forward=0.0, rows=0, validation=64, validation_times=times) for times in (0, 1, 4)]
    assert [THREE.cost(1600, each) for each in made] == [0, 8, 32]
    assert THREE.cost(1600, RowCost(forward=0.0, rows=0, validation=64)) == 24  # wrong where it is made once


def test_auto_takes_what_the_run_can_pay_for() -> None:
    # 110 steps of 8 rows worth 1.62: 545.6 rows of training, less two passes over 32 validation rows
    found = ONE.survivors(1.62, less(32), screened=1600, screens=1, screen=LEXICAL)
    assert found == 481
    assert ONE.cost(found, less(32)) < ONE.allowed(1.62) < ONE.cost(found + 1, less(32))
    assert ONE.survivors(1.62, less(32), agreement=64, screened=1600, screens=1, screen=LEXICAL) == 481 - 64
    assert ONE.survivors(9.0, less(32), screened=1600, screens=1, screen=LEXICAL) == 1600
    assert THREE.survivors(1.62, less(128), screened=1600, screens=1, screen=RDS) < 0


def test_the_exact_score_has_a_choice_from_twice_the_chosen_rows_on() -> None:
    assert enough_survivors(480, 720, 3, auto=True) == ""
    assert enough_survivors(481, 720, 3, auto=True) == ""
    with pytest.raises(ConfigError, match=r"comes to 479 rows, .* from 480 on\. Set component_params\.passes: 4\."):
        enough_survivors(479, 720, 3, auto=True)
    with pytest.raises(ConfigError, match=r"comes to 481 rows, .* from 1440 on\. Set component_params\.passes: 3\."):
        enough_survivors(481, 720, 1, auto=True)
    with pytest.raises(ConfigError, match=r"comes to 0 rows, .* No number of passes would do"):
        enough_survivors(-4, 720, 3, auto=True)


def test_too_few_survivors_are_refused_and_few_are_warned_of() -> None:
    with pytest.raises(ConfigError, match=r"survivors=239 cannot fill a stage, which chooses 240 rows .* 480 or more"):
        enough_survivors(239, 720, 3, auto=False)
    for survivors in (240, 479):
        assert "chooses nearly everything it sees" in enough_survivors(survivors, 720, 3, auto=False)
    assert enough_survivors(480, 720, 3, auto=False) == ""


def test_with_one_pass_a_choice_costs_more_than_the_run_past_its_warm_up() -> None:
    """With passes 1, M must be 2k for a choice, and k rows of all stages are T - w steps: C > T - w. So LESS can pay
    only where a step is worth more than 2 - w/T random ones.
    """
    steps, warmup = 110, 20
    for boundaries in (1, 3, 9):
        rows = (steps - warmup) // boundaries * 8
        budget = Budget(steps=steps, boundaries=boundaries, batch=8, beta=2.0)
        assert budget.cost(2 * rows, less(0)) >= steps - warmup
        assert budget.cost(2 * rows, less(32)) > budget.allowed(2 - warmup / steps)


def test_what_a_run_pays_once_does_not_depend_on_its_boundaries() -> None:
    # an index of 1600 rows at a fifth of a forward pass, and 75 rows scored by gradients at each boundary
    both = RowCost(backward=True, rows=75, once=1600 * 0.2)
    assert ONE.cost(1600, both) == pytest.approx(75 / 8 + 1600 * 0.2 / 3 / 8)
    assert THREE.cost(1600, both) == pytest.approx(3 * 75 / 8 + 1600 * 0.2 / 3 / 8)
