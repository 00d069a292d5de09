from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cluster_cases import selector
from embedded_pools import pad, pool, target, tiny_qwen

from dataflex import ComponentError, ConfigError
from dataflex.components.passes import Subtask
from dataflex.gradients.cosines import CosineScorer
from dataflex.testing import make_context

NEAR = set(range(0, 60, 3))


def chosen(subject: Any, step: int, count: int, model: Any = None) -> list[int]:
    return np.asarray(subject.select(model or tiny_qwen(), step, count).rows).tolist()


def test_clusters_of_one_row_are_less(tmp_path: Path) -> None:
    found = selector(tmp_path, num_clusters=60).select(tiny_qwen(), 4, 12)
    context = make_context(pool(), pad, cache_dir=tmp_path / "less", eval_datasets={"eval": target()})
    aim = [Subtask("eval", target(), np.arange(7))]
    exact = CosineScorer(context, parameters="linear", who="test").at(tiny_qwen()).score(aim, np.arange(60)).values
    assert found.scores == pytest.approx(exact[:, 0], abs=1e-6)
    assert set(found.rows) == set(np.argsort(-exact[:, 0])[:12].tolist())
    assert "agreement" not in found.metrics


def test_few_gradients_speak_for_all_rows(tmp_path: Path) -> None:
    found = selector(tmp_path, representatives=2).select(tiny_qwen(), 4, 12)
    assert found.metrics["scored"] <= 24
    assert found.scores is not None
    assert np.isfinite(found.scores).all()
    assert len(np.unique(found.scores)) <= 12
    assert len(set(found.rows)) == 12
    assert len(set(found.rows) & NEAR) >= 8  # a third of the pool is of the target's words
    assert {
        "clusters",
        "rounds",
        "agreement",
        "agreement_of_rows",
        "embedding_seconds",
        "validation",
        "seconds",
    } <= set(found.metrics)
    assert list(found.target_scores) == ["eval"]


def test_each_boundary_measures_other_representatives_of_the_same_clusters(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), selector(tmp_path)
    first, second = subject.select(model, 4, 6), subject.select(model, 8, 6)
    assert not np.array_equal(first.scores, second.scores)
    assert "embedding_seconds" not in second.metrics
    nearest = selector(tmp_path, representative_strategy="nearest")
    assert np.array_equal(nearest.select(model, 4, 6).scores, nearest.select(model, 8, 6).scores)


def test_with_the_run_s_model_the_pool_is_clustered_anew_at_each_boundary(tmp_path: Path) -> None:
    subject = selector(tmp_path, embedding_model="run")
    for step in (4, 8):
        assert "embedding_seconds" in subject.select(tiny_qwen(), step, 6).metrics
    assert "labels" not in subject.state_dict()


def test_a_resumed_selector_goes_on_exactly_with_the_clusters_it_had(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), selector(tmp_path, max_validation=4)
    subject.begin(model)
    chosen(subject, 4, 10, model)
    state = subject.state_dict()
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[3] += 1.0  # training goes on
    expected = subject.select(model, 8, 10)
    resumed = selector(tmp_path, max_validation=4)
    resumed.load_state_dict(state)
    assert resumed.state_dict().keys() == state.keys()
    again = resumed.select(model, 8, 10)
    assert list(again.rows) == list(expected.rows)
    assert np.array_equal(again.scores, expected.scores)


def test_little_agreement_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mixed = selector(tmp_path, cluster_rows=30, num_clusters=None, representatives=20, embedding_layers=0, tokens=1)
    with caplog.at_level(logging.WARNING, "dataflex"):
        found = mixed.select(tiny_qwen(), 4, 6)
    agreement = found.metrics["agreement"]
    assert isinstance(agreement, list)
    assert ("clusters say little of their rows: scores for eval" in caplog.text) == (agreement[0] < 0.1)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dataflex"):
        mixed._report({**found.metrics, "agreement": [0.4, 0.03]}, ["one", "two"], 4)
    assert "scores for two agree by 0.030" in caplog.text
    assert "scores for one" not in caplog.text


def test_rows_are_read_several_times(tmp_path: Path) -> None:
    rows = chosen(selector(tmp_path, passes=3), 1, 25)
    assert len(rows) == 25
    assert set(rows[:9]) == set(rows[9:18])
    assert rows[:9] != rows[9:18]


def test_too_few_rows_of_a_cluster_with_a_score_are_an_error(tmp_path: Path) -> None:
    rows = pool()
    for row in rows[5:]:
        row["labels"] = [-100] * len(row["labels"])
    subject = selector(tmp_path, dataset=rows, num_clusters=60)
    assert sorted(chosen(subject, 4, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ComponentError, match=r"only 5 of 60 rows at step 8 .* 6 are needed .* of 60 clusters 55 have"):
        chosen(subject, 8, 6)
    with pytest.raises(ComponentError, match="no row of the pool has an embedding with span: answer"):
        chosen(selector(tmp_path, dataset=[{**row, "labels": [-100] * len(row["labels"])} for row in rows],
                        span="answer"), 4, 2)  # fmt: skip


def test_there_is_something_to_aim_at_and_room_for_its_direction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cluster_less aims at an eval set and the run has none"):
        chosen(selector(tmp_path, eval_datasets={}), 4, 5)
    with pytest.raises(ConfigError, match="span is prompt"):
        chosen(selector(tmp_path, span="prompt", stage="pt"), 4, 5)
    with pytest.raises(ConfigError, match="above direction_memory_gb"):
        chosen(selector(tmp_path, direction_memory_gb=1e-6), 4, 5)


def test_it_costs_representatives_at_each_boundary_and_an_index_once(tmp_path: Path) -> None:
    cost = selector(tmp_path, representatives=2).scoring_cost(tiny_qwen())
    assert (cost.rows, cost.backward, cost.validation, cost.forward) == (24, True, 14, 1.0)
    each = selector(tmp_path, representatives=2, embedding_model="run").scoring_cost(tiny_qwen())
    assert cost.once == pytest.approx((each.forward - 1) * 24)
    assert 30 < cost.once < 60  # all layers of 60 rows, without the head
