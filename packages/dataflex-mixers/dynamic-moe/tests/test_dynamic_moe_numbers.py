"""Loads and proportions on numbers worked by hand, beside those that wrong versions give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataflex import ComponentError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_mixers_dynamic_moe import loads as module
from dataflex_mixers_dynamic_moe import plugin
from dataflex_mixers_dynamic_moe.loads import counting, differences, reweighted

LOADS = np.array([[40.0, 30, 20, 10], [38, 32, 18, 12], [10, 20, 30, 40]])
SHARES = np.array([0.5, 0.3, 0.2])
UNIFORM = np.full(3, 1 / 3)


def moved(loads: Any, shares: Any = SHARES) -> list[float]:
    return reweighted(shares, differences(loads), eta=10.0, smoothing=0.05).tolist()


def test_domains_with_other_experts_get_more() -> None:
    assert differences(LOADS).tolist() == pytest.approx([0.1624, 0.1569, 0.2927], abs=1e-4)
    assert moved(LOADS) == pytest.approx([0.3292, 0.1942, 0.4766], abs=1e-4)


def test_wrong_versions_give_other_proportions() -> None:
    assert moved(LOADS, UNIFORM) == pytest.approx(
        [0.186, 0.177, 0.638], abs=1e-3
    )  # from uniform, not from those in force
    others = reweighted(SHARES, differences(LOADS) * 3 / 2, eta=10.0, smoothing=0.05)  # K - 1 for K
    assert others.tolist() == pytest.approx([0.234, 0.137, 0.630], abs=1e-3)
    unit = LOADS / np.linalg.norm(LOADS, axis=1, keepdims=True)
    cosine = reweighted(SHARES, (1 - unit @ unit.T).mean(axis=1), eta=10.0, smoothing=0.05)
    assert cosine.tolist() == pytest.approx([0.371, 0.215, 0.415], abs=1e-3)
    padded = LOADS + np.array([[0, 0, 0, 60.0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert moved(padded) == pytest.approx([0.376, 0.432, 0.192], abs=1e-3)


def test_domains_that_are_alike_are_only_smoothed() -> None:
    alike = np.array([[4.0, 1.0], [8.0, 2.0], [40.0, 10.0]])
    assert moved(alike) == pytest.approx((0.95 * SHARES + 0.05 / 3).tolist())


def test_with_constant_loads_it_runs_away() -> None:
    shares = UNIFORM
    for _ in range(50):
        shares = reweighted(shares, differences(LOADS), eta=10.0, smoothing=0.05)
    assert shares[2] == pytest.approx(0.955, abs=1e-3)


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=6), st.data())
def test_shares_sum_to_one_keep_a_least_part_and_know_no_order(weights: list[float], data: Any) -> None:
    apart = np.array(data.draw(st.lists(st.floats(0, 1.5), min_size=len(weights), max_size=len(weights))))
    shares = np.array(weights) / sum(weights)
    found = reweighted(shares, apart, eta=10.0, smoothing=0.05)
    assert found.sum() == pytest.approx(1) and (found >= 0.05 / len(weights) - 1e-12).all()
    turned = reweighted(shares[::-1], apart[::-1], eta=10.0, smoothing=0.05)
    assert turned[::-1].tolist() == pytest.approx(found.tolist())


def test_a_domain_without_a_load_ends_the_run() -> None:
    with pytest.raises(ComponentError, match="no token to any expert"):
        differences(np.array([[1.0, 2.0], [0.0, 0.0]]))


def test_padding_is_sent_to_no_expert(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[3.0, 2, 0], [0, 1, 2], [0, 0, 9], [1, 2, 0], [0, 0, 9], [0, 9, 9]])  # two rows of three
    monkeypatch.setattr(module, "routing", lambda model, batch: [logits])
    batch = {"input_ids": torch.ones(2, 3), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    model: Any = None
    assert counting(slice(-1, None), 2)(model, batch).tolist() == [[1, 2, 1], [1, 1, 0]]
    logits[3, 0] = torch.nan
    assert counting(slice(-1, None), 2)(model, batch)[1].isnan().all()


def problems(folder: Path) -> list[str]:
    facts = RunFacts(
        train_type=TrainType.MIX,
        stage="sft",
        component=plugin.dataflex_components()[0],
        dist="dataflex-mixers-dynamic-moe",
        version="0.1.0",
        params={},
        steps=Steps(warmup=0, update=1, times=1),
        output_dir=Path("out"),
        arguments={"model_name_or_path": str(folder)},
        source="run.yaml",
    )
    return [problem.message for problem in plugin.dataflex_check_run(facts)]


def test_a_model_without_experts_is_refused_before_it_loads(tmp_path: Path) -> None:
    assert problems(tmp_path / "on_a_hub") == []
    (tmp_path / "config.json").write_text(json.dumps({"num_experts": 4}))
    assert problems(tmp_path) == []
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 4}))
    assert ["has none" in message for message in problems(tmp_path)] == [True]


def test_names_of_1x_files_are_read() -> None:
    entry = Subject(name="dynamic_moe", kind=Kind.MIXER).find()
    assert bind_values(entry, {"c": 0.1}).params.smoothing == 0.1
    assert {"collect_steps", "eval_samples", "eval_batch_size"} <= set(entry.spec.legacy)
