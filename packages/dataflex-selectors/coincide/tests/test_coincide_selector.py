from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coincide_cases import select_on_a_rank, selector
from embedded_pools import pool, tiny_qwen
from gloo import run_on_two_ranks

from dataflex import ComponentError, ConfigError
from dataflex.math.kmeans import members_of


def chosen(subject: Any, step: int, count: int, model: Any = None) -> list[int]:
    return np.asarray(subject.select(model or tiny_qwen(), step, count).rows).tolist()


def test_boundaries_go_through_the_pool_before_any_row_comes_again(tmp_path: Path) -> None:
    subject = selector(tmp_path)
    seen = [row for step in range(4) for row in chosen(subject, step, 15)]
    assert sorted(seen) == list(range(60))
    again = subject.select(tiny_qwen(), 4, 25)
    assert len(set(again.rows)) == 25
    assert again.metrics["again"] == 25
    part = selector(tmp_path, seed=3)
    first = chosen(part, 1, 50)
    both = part.select(tiny_qwen(), 2, 20)
    assert both.metrics["again"] == 10
    assert set(range(60)) - set(first) < set(both.rows)
    assert len(set(both.rows)) == 20


def test_the_order_within_a_cluster_does_not_depend_on_the_size_of_stages(tmp_path: Path) -> None:
    one, two = selector(tmp_path, num_clusters=1), selector(tmp_path, num_clusters=1)
    small = [sorted(chosen(one, step, 10)) for step in (1, 2)]
    assert sorted(chosen(two, 1, 20)) == sorted([*small[0], *small[1]])


def test_with_repeat_rows_a_boundary_chooses_the_same_again(tmp_path: Path) -> None:
    subject = selector(tmp_path, repeat_rows=True)
    first, second = chosen(subject, 1, 12), chosen(subject, 2, 12)
    assert sorted(first) == sorted(second)
    assert first != second  # in another order
    assert sorted(chosen(selector(tmp_path), 1, 12)) == sorted(first)


def test_scores_are_the_share_of_the_cluster_by_row(tmp_path: Path) -> None:
    subject = selector(tmp_path)
    found = subject.select(tiny_qwen(), 1, 12)
    assert found.scores is not None
    assert found.scores.sum() == pytest.approx(1)
    state = subject.state_dict()
    for cluster, members in enumerate(members_of(state["labels"], 6)):
        assert found.scores[members] == pytest.approx(state["shares"][cluster] / len(members))
        assert state["served"][cluster] == len(set(members.tolist()) & set(found.rows))
    facts = {"clusters": 6, "scored": 60, "without_score": 0, "again": 0}
    assert facts.items() <= found.metrics.items()
    assert {"rounds", "transfer", "density", "largest_cluster", "clusters_chosen", "embedding_seconds"} <= set(
        found.metrics
    )


def test_a_resumed_selector_goes_on_exactly_with_the_clusters_it_had(tmp_path: Path) -> None:
    model, subject = tiny_qwen(), selector(tmp_path)
    subject.begin(model)
    chosen(subject, 4, 10, model)
    state = subject.state_dict()
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[3] += 1.0  # training goes on
    expected = chosen(subject, 8, 10, model)
    resumed = selector(tmp_path)
    resumed.load_state_dict(state)
    assert resumed.state_dict().keys() == state.keys()
    assert chosen(resumed, 8, 10, model) == expected
    before = selector(tmp_path)
    before.begin(model)
    early = selector(tmp_path)
    early.load_state_dict(before.state_dict())  # stopped in the warm-up
    assert chosen(early, 4, 10, model) == chosen(before, 4, 10, model)


def test_another_layer_seed_or_temperature_chooses_otherwise(tmp_path: Path) -> None:
    plain = selector(tmp_path).select(tiny_qwen(), 1, 12).scores
    for more in ({"embedding_layers": (1,)}, {"seed": 9}, {"temperature": 5.0}, {"squash": "tanh"}, {"site": "block"}):
        other = selector(tmp_path, **more).select(tiny_qwen(), 1, 12).scores
        assert not np.array_equal(plain, other), more
    assert np.array_equal(selector(tmp_path / "new").select(tiny_qwen(), 1, 12).scores, plain)


def test_clusters_have_so_many_rows_on_average(tmp_path: Path) -> None:
    assert selector(tmp_path, num_clusters=None).select(tiny_qwen(), 1, 6).metrics["clusters"] == 1
    found = selector(tmp_path, num_clusters=None, cluster_rows=8).select(tiny_qwen(), 1, 6)
    assert found.metrics["clusters"] == 8
    assert selector(tmp_path, num_clusters=500).select(tiny_qwen(), 1, 6).metrics["clusters"] == 60


def test_rows_are_read_several_times(tmp_path: Path) -> None:
    rows = chosen(selector(tmp_path, passes=3), 1, 25)
    assert len(rows) == 25
    assert set(rows[:9]) == set(rows[9:18])
    assert rows[:9] != rows[9:18]


def test_too_few_rows_with_an_embedding_are_an_error_that_says_why(tmp_path: Path) -> None:
    rows = pool()
    for row in rows[5:]:
        row["labels"] = [-100] * len(row["labels"])
    subject = selector(tmp_path, dataset=rows, span="answer")
    assert sorted(chosen(subject, 4, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ComponentError, match=r"only 5 of 60 rows .* step 8 and 6 are needed: the others have no token"):
        chosen(subject, 8, 6)
    with pytest.raises(ConfigError, match="span is prompt"):
        chosen(selector(tmp_path, span="prompt", stage="pt"), 4, 5)


def test_rows_with_pictures_are_refused_by_name(tmp_path: Path) -> None:
    rows = [{**row, "images": ["a.png"]} for row in pool()]
    with pytest.raises(ComponentError, match="coincide clusters text alone"):
        chosen(selector(tmp_path, dataset=rows), 4, 5)


def test_two_ranks_choose_what_one_does(tmp_path: Path, fresh_accelerate: None) -> None:
    run_on_two_ranks(select_on_a_rank, tmp_path)
    model, alone = tiny_qwen(), selector(tmp_path / "alone")
    alone.begin(model)
    for step in (4, 8, 12):
        found = alone.select(model, step, 25)
        for rank in (0, 1):
            assert np.load(tmp_path / f"{step}-{rank}.npy").tolist() == list(found.rows)
            assert np.array_equal(np.load(tmp_path / f"{step}-{rank}-scores.npy"), found.scores)
    for rank in (0, 1):
        assert np.array_equal(np.load(tmp_path / f"{rank}-served.npy"), alone.state_dict()["served"])
        assert "only 60 of 60 rows have an embedding" in (tmp_path / f"error{rank}.txt").read_text()
