"""What is drawn, said, recorded and resumed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded_pools import of_domains, pool, target, tiny_qwen
from gloo import run_on_two_ranks
from torch import nn
from tsds_cases import select_on_a_rank, selector

from dataflex import ComponentError, ConfigError
from dataflex_selectors_tsds import solving
from dataflex_selectors_tsds.selector import TsdsSelector

NEAR = set(range(0, 60, 3))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_qwen()


def rows_of(subject: TsdsSelector, model: nn.Module, step: int = 4, count: int = 20) -> list[int]:
    return np.asarray(subject.select(model, step, count).rows).tolist()


def test_rows_like_those_of_the_eval_set_are_drawn_by_their_probabilities(model: nn.Module, tmp_path: Path) -> None:
    subject = selector(tmp_path, C=1.0)
    subject.begin(model)
    found = subject.select(model, 4, 1000)
    assert found.scores is not None
    assert found.scores.sum() == pytest.approx(1)
    assert found.scores[sorted(NEAR)].sum() > 0.9
    expected = 1000 * found.scores
    counts = np.bincount(np.asarray(found.rows), minlength=60)
    assert (np.abs(counts - expected) < 1).all()
    assert (counts[expected == 0] == 0).all()


def test_each_boundary_draws_anew_and_in_random_order(model: nn.Module, tmp_path: Path) -> None:
    first, second = rows_of(selector(tmp_path, C=4.0), model, 4), rows_of(selector(tmp_path, C=4.0), model, 5)
    assert sorted(first) != sorted(second)
    assert first != sorted(first)
    assert rows_of(selector(tmp_path, C=4.0), model, 5) == second


def test_independent_draws_scatter_and_distinct_ones_never_repeat(model: nn.Module, tmp_path: Path) -> None:
    p = selector(tmp_path, C=4.0).select(model, 4, 5).scores
    assert p is not None
    drawn = rows_of(selector(tmp_path, C=4.0, draw="independent"), model, 4, 4000)
    assert np.bincount(drawn, minlength=60) / 4000 == pytest.approx(p, abs=0.03)
    support = int(np.count_nonzero(p))
    assert 20 <= support < 60
    distinct = rows_of(selector(tmp_path, C=4.0, draw="distinct"), model, 4, support)
    assert sorted(distinct) == np.flatnonzero(p).tolist()
    advice = (
        rf"needs {support + 1} rows at step 4, and {support} of 60 have a probability. Lower component_params.alpha"
    )
    with pytest.raises(ComponentError, match=advice):
        rows_of(selector(tmp_path, C=4.0, draw="distinct"), model, 4, support + 1)
    assert len(rows_of(selector(tmp_path, C=4.0, draw="distinct", passes=2), model, 4, support + 1)) == support + 1


def test_passes_read_what_was_drawn_again_in_another_order(model: nn.Module, tmp_path: Path) -> None:
    once = rows_of(selector(tmp_path, C=4.0), model, 4, 9)
    found = rows_of(selector(tmp_path, C=4.0, passes=3), model, 4, 25)
    assert sorted(found[:9]) == sorted(found[9:18]) == sorted(once)
    assert found[:9] != found[9:18]


def test_a_later_boundary_and_a_resumed_run_solve_nothing_again(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[int] = []
    solve = solving.solve

    def counted(*args: Any, **kwargs: Any) -> Any:
        solved.append(1)
        return solve(*args, **kwargs)

    monkeypatch.setattr(solving, "solve", counted)
    subject = selector(tmp_path)
    subject.begin(model)
    rows_of(subject, model, 4)
    state = subject.state_dict()
    trained = tiny_qwen()
    with torch.no_grad():
        trained.get_parameter("model.embed_tokens.weight")[3] += 1.0  # training goes on
    expected = rows_of(subject, trained, 8)
    resumed = selector(tmp_path)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert rows_of(resumed, trained, 8) == expected
    assert len(solved) == 1
    now = selector(tmp_path, embedding_model="run")
    rows_of(now, trained, 8)
    assert len(solved) == 2
    assert now.state_dict() == {}


def test_a_decision_records_how_wide_it_is_spread(model: nn.Module, tmp_path: Path) -> None:
    found = selector(tmp_path, eval_datasets={"a": target(3), "b": target(4)}).select(model, 4, 5)
    p = found.scores
    assert p is not None
    wanted = {"scored": 60.0, "without_score": 0.0, "validation": 7.0, "validation_without_score": 0.0}
    assert wanted.items() <= found.metrics.items()
    assert found.metrics["support"] == np.count_nonzero(p)
    assert found.metrics["effective"] == pytest.approx(1 / (p**2).sum())
    density = found.metrics["mean_density"]
    assert isinstance(density, float)
    assert found.metrics["duplicates"] == density - 1 >= 0
    assert {"stop", "neighbours", "seconds", "embedding_seconds"} <= set(found.metrics)


def test_copies_of_a_row_do_not_gain_by_being_many(model: nn.Module, tmp_path: Path) -> None:
    alone = selector(tmp_path / "a", sigma=0.2, center=False).select(model, 4, 5).scores
    assert alone is not None
    row = int(np.nanargmax(alone))
    rows = pool()
    more = selector(tmp_path / "b", sigma=0.2, center=False, dataset=[*rows, rows[row], rows[row]])
    copied = more.select(model, 4, 5).scores
    assert copied is not None
    assert copied[[row, 60, 61]].sum() == pytest.approx(alone[row], abs=0.02)


def test_a_kernel_that_takes_everything_for_copies_is_warned_of_once(
    model: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        subject = selector(tmp_path, sigma=5.0)
        rows_of(subject, model, 4)
        rows_of(subject, model, 8)
        rows_of(selector(tmp_path / "b", sigma=0.1), model, 4)
    assert len([record for record in caplog.records if "takes rows for copies" in record.message]) == 1


def test_rows_without_an_embedding_have_no_score_and_a_target_without_any_is_named(
    model: nn.Module, tmp_path: Path
) -> None:
    rows = pool()
    rows[0]["labels"] = [-100] * len(rows[0]["labels"])
    found = selector(tmp_path, dataset=rows, span="answer").select(model, 4, 50)
    assert found.scores is not None
    assert np.isnan(found.scores).nonzero()[0].tolist() == [0]
    assert 0 not in np.asarray(found.rows)
    empty = [{**row, "labels": [-100] * len(row["labels"])} for row in target(3)]
    with pytest.raises(ComponentError, match="none of the 3 rows of the eval set 'eval' has an embedding"):
        selector(tmp_path, eval_datasets={"eval": empty}, span="answer").select(model, 4, 5)
    with pytest.raises(ComponentError, match="no row of the pool has an embedding: they have no token with a label"):
        selector(tmp_path, dataset=empty, span="answer").select(model, 4, 5)
    with pytest.raises(ConfigError, match="TSDS aims at an eval set and the run has none"):
        selector(tmp_path, eval_datasets={}).select(model, 4, 5)
    with pytest.raises(ConfigError, match="span is prompt"):
        selector(tmp_path, span="prompt", stage="pt").select(model, 4, 5)


def test_two_ranks_draw_what_one_does(model: nn.Module, tmp_path: Path, fresh_accelerate: None) -> None:
    run_on_two_ranks(select_on_a_rank, tmp_path)
    alone = selector(tmp_path / "alone", passes=2)
    alone.begin(model)
    beside = selector(tmp_path / "alone beside")
    beside.begin(model)
    for step in (4, 8, 12):
        found = alone.select(model, step, 30) if step < 12 else beside.select(model, step, 30, of_domains(10, 20))
        for rank in (0, 1):
            assert np.load(tmp_path / f"{step}-{rank}.npy").tolist() == np.asarray(found.rows).tolist()
            assert np.array_equal(np.load(tmp_path / f"{step}-{rank}-scores.npy"), found.scores)
    for rank in (0, 1):
        assert "none of the 7 rows of the eval set 'eval'" in (tmp_path / f"error{rank}.txt").read_text()


def test_it_says_what_embedding_costs(model: nn.Module, tmp_path: Path) -> None:
    # q with its bias, k and v with theirs, o; gate, up and down; two norms; and the head, which is not run
    block = 32 * 32 + 32 + 2 * (32 * 16 + 16) + 32 * 32 + 3 * 32 * 64 + 2 * 32
    for embedding_model, times in (("initial", 1), ("run", None)):
        found = selector(tmp_path, embedding_model=embedding_model).scoring_cost(model)
        assert found.forward == pytest.approx(2 * block / (2 * block + 60 * 32))
        assert (found.rows, found.times, found.backward, found.validation) == (60 + 7, times, False, 0)
