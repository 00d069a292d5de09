"""Passes over stages: where they begin, what is carried on, and what survives a resume."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from prune_cases import ask, rows_of, selector, tell, weights_of

from dataflex import ConfigError, RunContext
from dataflex.checkpoint import state
from dataflex_selectors_prune.pruning import pruned_pass, whole_pass
from dataflex_selectors_random.params import RandomParams
from dataflex_selectors_random.selector import RandomSelector

LOSSES = [0.2, 0.4, 0.6, 1.0, 2.8]


def test_a_stage_cuts_a_pass_in_two_and_the_next_goes_on() -> None:
    made = selector(pool=5, seed=9)
    tell(made, range(5), LOSSES)
    stages = [ask(made, step, 3) for step in (1, 2, 3, 4)]
    served = [row for stage in stages for row in rows_of(stage)]
    weights = [weight for stage in stages for weight in weights_of(stage)]
    streams = RunContext(dataset=range(5), data_collator=list, seed=9)
    first = whole_pass(5, streams.rng(0, "prune", 1))
    second, third = (pruned_pass(np.array(LOSSES), 0.5, streams.rng(0, "prune", number)) for number in (2, 3))
    assert served == [*first.rows, *second.rows, *third.rows][:12]
    assert weights == [*first.weights, *second.weights, *third.weights][:12]
    assert stages[0].weights is None  # of the first pass alone
    assert [stage.metrics["passes"] for stage in stages] == [1, 2, 2, 3]
    assert [stage.metrics["skipped"] for stage in stages] == [0, 1, 1, 2]
    assert stages[1].metrics["below"] == 3 and stages[1].metrics["kept"] == 2


def test_a_stage_may_hold_several_passes() -> None:
    made = selector(pool=5)
    tell(made, range(5), LOSSES)
    chosen = ask(made, 1, 5 + 4 + 4)
    assert sorted(rows_of(chosen)[:5]) == list(range(5))
    for start in (5, 9):
        rows, weights = rows_of(chosen)[start : start + 4], weights_of(chosen)[start : start + 4]
        assert len(set(rows)) == 4 and sorted(weights) == [1, 1, 1.5, 1.5]
    assert chosen.metrics["skipped"] == 2


def test_without_losses_every_pass_reads_all_rows() -> None:
    chosen = ask(selector(pool=5), 1, 10)
    assert sorted(rows_of(chosen)[:5]) == sorted(rows_of(chosen)[5:]) == list(range(5)) and chosen.weights is None


@pytest.mark.parametrize(("until", "prunes"), [(0.4, [False]), (0.41, [True]), (0.59, [True]), (1.0, [True])])
def test_a_pass_that_begins_late_reads_all_rows(until: float, prunes: list[bool]) -> None:
    """Ten steps of five rows: from step 3 on, the first pass takes one step and the second begins at step 4."""
    made = selector(pool=5, total=10, batch=5, until=until)
    tell(made, range(5), LOSSES)
    chosen = ask(made, 3, 10)
    assert [chosen.metrics["skipped"] > 0] == prunes


@pytest.mark.parametrize(("until", "prunes"), [(0.3, False), (0.32, False), (0.33, True)])
def test_a_pass_begins_within_a_step_where_its_rows_do(until: float, prunes: bool) -> None:
    """Ten steps of four rows: from step 2 on, the first pass of five rows ends at step 3.25."""
    made = selector(pool=5, total=10, batch=4, until=until)
    tell(made, range(5), LOSSES)
    assert (ask(made, 2, 8).metrics["skipped"] > 0) is prunes


@pytest.mark.parametrize(("until", "total", "step"), [(0.07, 100, 7), (0.14, 50, 7), (0.28, 25, 7)])
def test_rounding_does_not_put_off_the_last_passes(until: float, total: int, step: int) -> None:
    assert until * total > step  # a little more
    made = selector(pool=5, total=total, batch=5, until=until)
    tell(made, range(5), LOSSES)
    assert ask(made, step - 1, 10).metrics["skipped"] == 0
    made = selector(pool=5, total=total, batch=5, until=until)
    tell(made, range(5), LOSSES)
    assert ask(made, step - 2, 10).metrics["skipped"] > 0


def test_until_0_never_prunes_and_until_1_always_does() -> None:
    for until, skipped in ((0.0, 0), (1.0, 2)):
        made = selector(pool=5, total=9, batch=5, until=until)
        tell(made, range(5), LOSSES)
        assert ask(made, 1, 13).metrics["skipped"] == skipped


def test_what_was_seen_last_decides() -> None:
    made = selector(pool=5)
    tell(made, range(5), LOSSES, step=1)
    ask(made, 1, 5)
    tell(made, [0, 3], [9.0, 0.1], step=2)  # the mean is 2.58 now, and 1, 2, 3 are below it
    chosen = ask(made, 2, 4)
    weights = dict(zip(rows_of(chosen), weights_of(chosen), strict=True))
    assert weights[0] == weights[4] == 1 and chosen.metrics["mean_score"] == pytest.approx(2.58)
    assert sorted(weight for row, weight in weights.items() if row in (1, 2, 3)) == [1.5, 1.5]


def test_the_evolved_score_decides_otherwise_than_the_last_loss() -> None:
    found = {}
    for score in ("loss", "es"):
        made = selector(pool=3, score=score, ratio=0.5)
        tell(made, [0, 1, 2], [2.0, 1.0, 1.0])
        tell(made, [0], [0.9], step=2)  # last losses .9, 1, 1; evolved 1.12, 1, 1
        ask(made, 2, 3)
        found[score] = ask(made, 3, 2).metrics
    assert found["loss"]["below"] == 1 and found["loss"]["mean_score"] == pytest.approx(2.9 / 3)
    assert found["es"]["below"] == 2 and found["es"]["mean_score"] == pytest.approx(3.12 / 3)


@pytest.mark.parametrize("count", [3, 12, 30])
def test_a_ratio_of_nothing_is_random_selection_bit_for_bit(count: int) -> None:
    context = RunContext(dataset=range(12), data_collator=list, seed=3)
    stock, made = RandomSelector(RandomParams(), context), selector(pool=12, ratio=0.0)
    tell(made, range(12), range(12))
    for step in (4, 8):
        chosen = ask(made, step, count)
        assert rows_of(chosen) == np.asarray(stock.select(None, step, count).rows).tolist()  # type: ignore[arg-type]
        assert chosen.weights is None and chosen.scores is None
    assert made.state_dict() == {}


@pytest.mark.parametrize("score", ["loss", "es"])
def test_what_it_remembers_goes_through_a_checkpoint(score: str) -> None:
    whole = selector(pool=9, score=score)
    rng = np.random.default_rng(1)
    for step in range(1, 6):
        tell(whole, rng.integers(9, size=6).tolist(), rng.random(6).tolist(), step)
        ask(whole, step, 5)
    resumed = selector(pool=9, score=score)
    resumed.load_state_dict(state.round_trip(whole.state_dict()))
    for step in range(6, 12):
        rows, losses = rng.integers(9, size=6).tolist(), rng.random(6).tolist()
        for made in (whole, resumed):
            tell(made, rows, losses, step)
        first, second = ask(whole, step, 5), ask(resumed, step, 5)
        assert rows_of(first) == rows_of(second) and weights_of(first) == weights_of(second)
        assert first.metrics == second.metrics


def test_the_scores_are_what_training_saw() -> None:
    made = selector(pool=4)
    assert ask(made, 1, 2).scores is None
    tell(made, [2, 0], [0.5, 1.5])
    assert ask(made, 2, 2).scores == pytest.approx([1.5, np.nan, 0.5, np.nan], nan_ok=True)


def test_a_pool_cannot_be_scored_before_training_has_seen_it() -> None:
    context = RunContext(dataset=range(4), data_collator=list, scores_only=True)
    made = type(selector())(selector().params, context)
    with pytest.raises(ConfigError, match="Name a checkpoint of a run with prune"):
        ask(made, 0, 1)
    tell(made, [1], [0.5])
    assert ask(made, 0, 1).scores is not None
    nothing = type(selector())(selector(ratio=0.0).params, context)
    tell(nothing, [1], [0.5])
    with pytest.raises(ConfigError, match="with ratio: 0 none are kept"):
        ask(nothing, 0, 1)


def test_a_run_of_less_than_a_pass_is_told_that_nothing_will_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        ask(selector(pool=12, total=10, batch=4), 6, 8)
        assert caplog.messages == []
        ask(selector(pool=12, total=9, batch=4), 6, 8)
    (message,) = caplog.messages
    assert message.startswith("prune: the run reads 12 rows of a pool of 12 past the warm-up")
