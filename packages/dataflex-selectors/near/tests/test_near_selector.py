from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded_pools import of_domains, pool, target, tiny_qwen
from gloo import run_on_two_ranks
from near_cases import select_on_a_rank, selector

from dataflex import ComponentError, ConfigError
from dataflex_selectors_near.params import NearParams, RdsParams

NEAR = set(range(0, 60, 3))


def chosen(subject: Any, step: int, count: int, model: Any = None) -> list[int]:
    return np.asarray(subject.select(model or tiny_qwen(), step, count).rows).tolist()


@pytest.mark.parametrize("params", [NearParams, RdsParams])
@pytest.mark.parametrize("aggregate", ["round_robin", "max", "mean"])
def test_rows_like_those_of_the_eval_set_are_preferred(aggregate: str, params: Any, tmp_path: Path) -> None:
    subject = selector(tmp_path, params, aggregate=aggregate)
    subject.begin(tiny_qwen())
    found = subject.select(tiny_qwen(), 4, 12)
    assert len(set(found.rows) & NEAR) >= 11
    assert len(set(found.rows)) == 12
    assert found.scores is not None
    assert np.isfinite(found.scores).all()


def test_a_later_boundary_chooses_others_until_none_is_left(tmp_path: Path) -> None:
    subject, seen = selector(tmp_path), []
    for step in range(4):
        seen += chosen(subject, step, 15)
    assert sorted(seen) == list(range(60))
    assert len(set(chosen(subject, 4, 15)) & NEAR) >= 12  # all are free again
    again = selector(tmp_path, repeat_rows=True, aggregate="max")
    assert set(chosen(again, 1, 10)) == set(chosen(again, 2, 10))


def test_rows_come_in_random_order_of_the_seed_and_the_step(tmp_path: Path) -> None:
    first = chosen(selector(tmp_path / "a", aggregate="max"), 4, 10)
    assert first == chosen(selector(tmp_path / "b", aggregate="max"), 4, 10)
    other = chosen(selector(tmp_path / "c", aggregate="max", seed=7), 4, 10)
    assert first != other
    assert sorted(first) == sorted(other)


@pytest.mark.parametrize("params", [NearParams, RdsParams])
def test_a_resumed_selector_goes_on_exactly(params: Any, tmp_path: Path) -> None:
    model, subject = tiny_qwen(), selector(tmp_path, params, aggregate="round_robin")
    subject.begin(model)
    chosen(subject, 4, 10, model)
    state = subject.state_dict()
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[3] += 1.0  # training goes on
    expected = chosen(subject, 8, 10, model)
    resumed = selector(tmp_path, params, aggregate="round_robin")
    resumed.load_state_dict(state)
    assert resumed.state_dict().keys() == state.keys()
    assert chosen(resumed, 8, 10, model) == expected


def test_a_share_of_the_stage_is_drawn_from_the_rest(tmp_path: Path) -> None:
    subject = selector(tmp_path, share=0.5, aggregate="max")
    found = chosen(subject, 4, 11)
    by_likeness = set(chosen(selector(tmp_path, aggregate="max"), 4, 6))  # floor(.5 * 11 + .5)
    assert by_likeness <= set(found)
    assert len(set(found)) == 11
    assert chosen(selector(tmp_path, share=0), 4, 5) != chosen(selector(tmp_path, share=0), 5, 5)


@pytest.mark.parametrize("aggregate", ["round_robin", "max", "mean"])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_share_does_not_excuse_rows_without_an_embedding(aggregate: str, share: float, tmp_path: Path) -> None:
    """12 of 60 rows have an answer: enough for the half that is chosen by likeness, not for the rows of a pass."""
    rows = [{**row, "labels": row["labels"] if place < 12 else [-100] * len(row["labels"])} for place, row in
            enumerate(pool())]  # fmt: skip
    subject = selector(tmp_path, dataset=rows, span="answer", aggregate=aggregate, share=share, passes=2)
    assert len(set(chosen(subject, 4, 24))) == 12
    with pytest.raises(ComponentError, match="only 12 of 60 candidates at step 8 have an embedding and 13 are needed"):
        chosen(subject, 8, 25)


def test_rows_are_read_several_times_each_time_in_another_order(tmp_path: Path) -> None:
    found = chosen(selector(tmp_path, passes=3), 4, 25)
    assert len(found) == 25
    assert set(found[:9]) == set(found[9:18])
    assert found[:9] != found[9:18]
    assert len(set(found)) == 9
    assert set(found[18:]) < set(found)


def test_only_candidates_are_looked_at(tmp_path: Path) -> None:
    subject = selector(tmp_path, max_candidates=20)
    first, second = subject.select(tiny_qwen(), 4, 5), subject.select(tiny_qwen(), 8, 5)
    assert first.scores is not None
    assert second.scores is not None
    assert np.isfinite(first.scores).sum() == np.isfinite(second.scores).sum() == 20
    assert not np.array_equal(np.isfinite(first.scores), np.isfinite(second.scores))
    assert first.metrics["max_candidates"] == 20
    with pytest.raises(ConfigError, match="max_candidates=20"):
        subject.select(tiny_qwen(), 9, 21)


def test_with_initial_the_model_in_training_is_not_looked_at_again(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), selector(tmp_path, RdsParams)
    subject.begin(model)
    before = subject.select(model, 4, 5).scores
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    assert np.array_equal(subject.select(model, 8, 5).scores, before)
    assert not np.array_equal(selector(tmp_path, tokens=32).select(model, 8, 5).scores, before)


def test_several_targets_take_turns_and_their_parts_are_recorded(tmp_path: Path) -> None:
    sets = {"a": target(2), "b": [{**row} for row in pool()[1:20:3]], "unused": target(1)}
    subject = selector(tmp_path, eval_datasets=sets, targets=("a", "b"))
    found = subject.select(tiny_qwen(), 4, 12)
    shares = found.metrics["subtask_shares"]
    assert isinstance(shares, list)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0.25
    assert found.metrics["validation"] == 9


def test_metrics_say_what_was_compared_with_what(tmp_path: Path) -> None:
    metrics = selector(tmp_path).select(tiny_qwen(), 4, 5).metrics
    assert {"scored": 60.0, "without_score": 0.0, "validation": 7.0, "free": 60.0, "neighbours": 32.0}.items() <= (
        metrics.items()
    )
    assert {"seconds", "embedding_seconds", "score_quantiles"} <= set(metrics)


def test_too_few_rows_with_an_embedding_are_an_error_that_says_why(tmp_path: Path) -> None:
    rows = pool()
    for row in rows[5:]:
        row["labels"] = [-100] * len(row["labels"])
    subject = selector(tmp_path, dataset=rows, span="answer")
    assert sorted(chosen(subject, 4, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(
        ComponentError, match=r"only 5 of 60 candidates at step 8 .* 6 are needed: 55 have no token with"
    ):
        subject.select(tiny_qwen(), 8, 6)
    empty = [{**row, "labels": [-100] * len(row["labels"])} for row in target(3)]
    with pytest.raises(ComponentError, match="none of the 3 rows of the eval set 'eval' has an embedding"):
        selector(tmp_path, eval_datasets={"eval": empty}, span="answer").select(tiny_qwen(), 4, 5)


def test_eval_rows_without_an_embedding_have_no_turn(tmp_path: Path) -> None:
    mixed = target(3)
    mixed[1]["labels"] = [-100] * len(mixed[1]["labels"])
    metrics = selector(tmp_path, eval_datasets={"eval": mixed}, span="answer").select(tiny_qwen(), 4, 5).metrics
    assert (metrics["validation"], metrics["validation_without_score"]) == (2, 1)


def test_without_an_eval_set_there_is_nothing_to_be_near_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A nearest row aims at an eval set and the run has none"):
        selector(tmp_path, eval_datasets={}).select(tiny_qwen(), 4, 5)
    with pytest.raises(ConfigError, match="span is prompt"):
        selector(tmp_path, span="prompt", stage="pt").select(tiny_qwen(), 4, 5)


def test_two_ranks_choose_what_one_does(tmp_path: Path, fresh_accelerate: None) -> None:
    run_on_two_ranks(select_on_a_rank, tmp_path)
    model = tiny_qwen()
    for params in (NearParams, RdsParams):
        alone = selector(tmp_path / "alone" / params.__name__, params, share=0.8)
        alone.begin(model)
        for step in (4, 8, 12):
            found = alone.select(model, step, 10, candidates=None if step < 12 else of_domains(4, 6))
            for rank in (0, 1):
                assert np.load(tmp_path / f"{params.__name__}-{step}-{rank}.npy").tolist() == list(found.rows)
                assert np.array_equal(np.load(tmp_path / f"{params.__name__}-{step}-{rank}-scores.npy"), found.scores)
        for rank in (0, 1):
            assert np.array_equal(
                np.load(tmp_path / f"{params.__name__}-{rank}-state.npy"), alone.state_dict()["chosen"]
            )
    for rank in (0, 1):
        assert "none of the 7 rows of the eval set 'eval'" in (tmp_path / f"error{rank}.txt").read_text()
