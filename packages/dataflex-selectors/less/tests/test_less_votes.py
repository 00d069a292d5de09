"""Votes and balance in ``less``, the name ``icons``, cut eval sets, and fewer validation rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from less_cases import pool_and_goals, reference_cosines, rows_of, selector, tiny_qwen, warmed_up, with_lora

from dataflex.errors import ConfigError
from dataflex.math.votes import votes
from dataflex.testing.subject import Subject, bind_values
from dataflex_selectors_less.params import IconsParams, LessParams
from dataflex_selectors_less.ranking import choose, combine
from dataflex_selectors_less.selector import LessSelector
from dataflex_selectors_less.subtasks import subtasks_of

SCORES = np.array(
    [
        [0.9, 0.05, 0.04],
        [0.5, 0.3, 0.36],
        [0.4, 0.32, 0.3],
        [0.1, 0.4, 0.1],
        [0.45, 0.1, 0.35],
        [0.05, 0.06, 0.6],
    ]
)


def chosen(scores: np.ndarray, count: int, seed: int = 0, **params: Any) -> list[int]:
    return choose(scores, count, LessParams(**params), np.random.default_rng(seed)).tolist()


def test_the_example_of_votes() -> None:
    assert set(chosen(SCORES, 2, aggregate="votes")) == {1, 2}
    assert set(chosen(SCORES, 2, aggregate="max")) == {0, 5}
    assert set(chosen(SCORES, 2, aggregate="mean")) == {1, 2}
    scaled = SCORES * [1, 10, 1]
    assert set(chosen(scaled, 2, aggregate="votes")) == {1, 2}
    assert set(chosen(scaled, 2, aggregate="max")) == set(chosen(scaled, 2, aggregate="mean")) == {3, 2}


def test_balance_takes_the_rows_of_the_example() -> None:
    assert sorted(chosen(SCORES, 3, aggregate="balanced")) == [0, 3, 5]
    assert set(chosen(SCORES, 2, aggregate="balanced")) == {0, 5}


def test_rows_without_all_scores_are_never_chosen() -> None:
    with_nan = np.vstack([[np.nan, 9.0, 9.0], SCORES])
    for aggregate in ("votes", "balanced"):
        expected = [row + 1 for row in sorted(chosen(SCORES, 3, aggregate=aggregate))]
        assert sorted(chosen(with_nan, 3, aggregate=aggregate)) == expected


def test_the_share_that_votes_can_be_set() -> None:
    # A half votes for 3 rows each: 0, 1, 4 | 3, 2, 1 | 5, 1, 4. Row 4 has two votes too, row 1 three.
    params = LessParams(aggregate="votes", vote_share=0.5)
    assert votes(SCORES, 0.5).tolist() == [1, 3, 1, 1, 2, 1]
    assert set(chosen(SCORES, 2, aggregate="votes", vote_share=0.5)) == {1, 4}
    assert np.floor(combine(SCORES, params, 2)).tolist() == [1, 3, 1, 1, 2, 1]
    assert LessParams(top_percent=20).vote_share == 0.2  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="top_percent is vote_share in percent"):
        LessParams(top_percent=20, vote_share=0.5)


def test_ties_at_random_are_broken_by_the_draw() -> None:
    found = {frozenset(chosen(SCORES, 2, seed=seed, aggregate="votes", tie_break="random")) for seed in range(40)}
    assert found == {frozenset({1, other}) for other in (0, 2, 3, 5)}
    assert set(chosen(SCORES, 2, aggregate="votes", tie_break="mean")) == {1, 2}


def test_sampling_prefers_rows_of_more_votes() -> None:
    counts = np.zeros(6)
    for seed in range(300):
        counts[chosen(SCORES, 2, seed=seed, aggregate="votes", mode="sample")] += 1
    assert counts.argmax() == 1 and counts.argmin() == 4
    with pytest.raises(ConfigError, match="balanced takes the best in turn"):
        LessParams(aggregate="balanced", mode="sample")


def test_icons_is_less_with_its_own_defaults() -> None:
    entry = Subject(name="icons").find()
    assert entry.load() is LessSelector
    bound = bind_values(entry, {})
    assert isinstance(bound.params, IconsParams)
    assert (bound.values["preconditioner"], bound.values["aggregate"]) == ("sgd", "votes")
    others = {name: value for name, value in bound.values.items() if name not in ("preconditioner", "aggregate")}
    plain = bind_values(Subject(name="less").find(), {}).values
    assert others == {name: plain[name] for name in others} and plain.keys() == bound.values.keys()
    named = bind_values(entry, {"gradient_type": "adam", "top_percent": 25, "task_boundaries": [2, 3]})
    assert (named.values["preconditioner"], named.values["vote_share"]) == ("adam", 0.25)
    assert named.values["task_boundaries"] == (2, 3)


def test_icons_selects_by_votes_of_plain_gradients() -> None:
    rows, _ = pool_and_goals()
    goals = {name: rows_of(lengths, seed) for name, lengths, seed in (("a", [9], 1), ("b", [14], 2), ("c", [11], 3))}
    model = with_lora(tiny_qwen())
    picker = selector(rows, goals, preconditioner="sgd", aggregate="votes")
    found = picker.select(model, 5, 4)
    cosines = reference_cosines(model, None, rows, goals, "sgd")
    assert sorted(found.rows) == sorted(chosen(cosines, 4, aggregate="votes"))
    assert found.scores is not None
    counts = votes(cosines, 4 / len(rows))
    np.testing.assert_array_equal(np.floor(found.scores[counts < 3]), counts[counts < 3])
    assert list(found.target_scores) == ["a", "b", "c"]
    np.testing.assert_allclose(np.stack(list(found.target_scores.values()), axis=1), cosines, atol=1e-5)
    assert len(found.metrics["vote_thresholds"]) == 3  # type: ignore[arg-type]


def test_one_eval_set_is_cut_by_sizes() -> None:
    data = {"eval": [{"input_ids": [1]}] * 6}
    pieces = subtasks_of(data, None, None, (1, 3, 2))
    assert [(piece.name, piece.rows.tolist()) for piece in pieces] == [
        ("eval-1", [0]),
        ("eval-2", [1, 2, 3]),
        ("eval-3", [4, 5]),
    ]


@pytest.mark.parametrize(
    ("names", "sizes", "said"),
    [
        (("eval",), (1, 3), r"task_boundaries: \[1, 3\] adds up to 4 rows, but the eval set 'eval' has 6"),
        (("eval",), (3, 6), "adds up to 9 rows"),  # as places
        (("one", "two"), (3, 3), "cuts one eval set into subtasks, and there are 2"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused(names: tuple[str, ...], sizes: tuple[int, ...], said: str) -> None:
    data = {name: [{"input_ids": [1]}] * 6 for name in names}
    with pytest.raises(ConfigError, match=said):
        subtasks_of(data, None, None, sizes)


def test_sizes_and_a_column_are_not_both_given() -> None:
    with pytest.raises(ConfigError, match="Leave one out"):
        LessParams(task_boundaries=(2,), subtask_column="kind")


def test_fewer_validation_rows_are_drawn_once_and_kept() -> None:
    rows, goals = pool_and_goals()
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    picker = selector(rows, goals, optimizer, max_validation=2)
    first = picker.select(model, 5, 3)
    state = picker.state_dict()
    assert {name: len(places) for name, places in state.items()} == {"validation/one": 2, "validation/two": 2}
    assert first.metrics["validation"] == 4
    places = state["validation/one"]
    expected = np.sort(picker.context.rng(0, "validation", "one").choice(5, 2, replace=False, shuffle=False))
    np.testing.assert_array_equal(places, expected)
    subset = {"one": [goals["one"][place] for place in places], "two": goals["two"]}
    by_hand = selector(rows, subset, optimizer).select(model, 5, 3)
    np.testing.assert_allclose(first.scores, by_hand.scores, atol=1e-6)  # type: ignore[arg-type]
    assert sorted(first.rows) == sorted(by_hand.rows)
    again = selector(rows, goals, optimizer, max_validation=2)
    again.load_state_dict({"validation/one": np.array([0, 4]), "validation/two": state["validation/two"]})
    again.select(model, 7, 3)
    np.testing.assert_array_equal(again.state_dict()["validation/one"], [0, 4])


def test_all_validation_rows_are_as_no_limit() -> None:
    rows, goals = pool_and_goals()
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    plain = selector(rows, goals, optimizer)
    whole = plain.select(model, 5, 3)
    assert plain.state_dict() == {}
    bounded = selector(rows, goals, optimizer, max_validation=5).select(model, 5, 3)
    assert list(whole.rows) == list(bounded.rows)
    np.testing.assert_array_equal(whole.scores, bounded.scores)  # type: ignore[arg-type]


def test_the_cost_counts_two_passes_over_the_validation_rows() -> None:
    rows, goals = pool_and_goals()
    for limit, count in ((None, 7), (1, 2), (3, 5)):
        cost = selector(rows, goals, max_validation=limit).scoring_cost(torch.nn.Linear(1, 1))
        assert (cost.forward, cost.backward, cost.validation) == (1.0, True, 2 * count)


def test_a_target_that_stands_twice_gets_a_column_of_its_own() -> None:
    rows = rows_of([9, 12, 15], 4)
    for row, kind in itertools.product(rows, ["x"]):
        row["kind"] = kind  # type: ignore[assignment]
    goals = {"one": rows[:1], "two": rows[1:]}
    pieces = subtasks_of(goals, "kind")
    assert [piece.name for piece in pieces] == ["x", "x"]
    from dataflex.scoring.validation import names_of

    assert names_of(pieces) == ["x", "x-2"]
