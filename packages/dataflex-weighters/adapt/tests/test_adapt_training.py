"""adapt in training: no second forward, anchors once a refresh, the same update however a step is cut, exact resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import adapt_runs as runs
import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex_weighters_adapt import weighter as module


def unit_of(model: Any, ids: list[int]) -> torch.Tensor:
    """The direction of one row by itself, by a plain loop."""
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double()
    pooled = sum((place + 1) * hidden[place] for place in range(len(ids)))
    return pooled / pooled.norm()


def test_scores_are_those_of_a_forward_of_each_row_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[float] = []
    monkeypatch.setattr(module.AdaptWeighter, "on_step", lambda self, stats: noted.extend(stats.noted.tolist()))
    made = runs.trained(tmp_path, max_steps=3, learning_rate=0.0)
    model = made.accelerator.unwrap_model(made.model).eval()
    anchors = torch.stack([unit_of(model, row["input_ids"]) for those in runs.EVAL.values() for row in those])
    assert made.component.direction == pytest.approx(anchors.mean(dim=0).numpy(), abs=1e-6)  # of both eval sets
    expected = np.array([float((anchors @ unit_of(model, row["input_ids"])).mean()) for row in runs.POOL])
    assert len(noted) == 16
    assert max(np.abs(expected - score).min() for score in noted) < 1e-6
    entry = made.state.log_history[-2]
    assert entry["dataflex/score_mean"] == pytest.approx(np.mean(noted[8:]))
    assert entry["dataflex/score_sd"] == pytest.approx(np.std(noted[8:]), abs=1e-6)


def test_no_forward_is_added_and_the_anchors_are_embedded_once_a_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed: list[int] = []
    real = module.mean_direction

    def counted(model: Any, *args: Any) -> Any:
        refreshed.append(forwards["all"])
        found = real(model, *args)
        forwards["anchors"] += forwards["all"] - refreshed[-1]
        return found

    forwards = {"all": 0, "anchors": 0}
    monkeypatch.setattr(module, "mean_direction", counted)
    made = runs.trainer(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4)

    def count(*_: Any) -> None:
        forwards["all"] += 1

    made.model.register_forward_pre_hook(count)
    made.train()
    weighted = runs.STEPS - runs.WARMUP
    assert len(refreshed) == -(-weighted // runs.REFRESH) == 3  # the mistake, once a micro-batch: 12
    assert forwards["all"] - forwards["anchors"] == 4 * runs.STEPS
    assert not made.model.get_output_embeddings()._forward_pre_hooks


def test_the_update_does_not_depend_on_how_a_step_is_cut(tmp_path: Path) -> None:
    params = {"centre": "window", "tau": 0.1}
    whole = runs.trained(tmp_path / "whole", params)
    parts = runs.trained(tmp_path / "parts", params, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert runs.parameters(parts).numpy() == pytest.approx(runs.parameters(whole).numpy(), abs=2e-5)
    plain = runs.trained(tmp_path / "plain", params, max_steps=7)
    assert plain.state.log_history[-2]["dataflex/weight_max"] == 1.0  # its window is not full yet
    entry = whole.state.log_history[-2]
    assert entry["dataflex/weight_max"] > 1 > entry["dataflex/weight_min"] and entry["dataflex/score_sd"] > 0


@pytest.mark.parametrize("step", [6, 10])
def test_a_resumed_run_trains_to_the_same_bits(tmp_path: Path, step: int) -> None:
    params = {"centre": "window", "max_anchors": 2}
    whole = runs.trained(tmp_path / "whole", params)
    saves = {"save_strategy": "steps", "save_steps": step}
    stopped = runs.trainer(tmp_path / "cut", params, **saves)
    stopped.add_callback(runs.StopAt(step))
    stopped.train()
    resumed = runs.trainer(tmp_path / "cut", params, **saves)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "out" / f"checkpoint-{step}"))
    assert torch.equal(runs.parameters(resumed), runs.parameters(whole))
    assert np.array_equal(resumed.component.direction, whole.component.direction)


def test_two_ranks_train_what_one_does(tmp_path: Path) -> None:
    run_on_two_ranks(runs.rank_trains, tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    one = runs.trained(tmp_path / "one", {"centre": "window"})
    assert found["direction"] == pytest.approx(one.component.direction.tolist(), abs=2e-5)
    assert found["parameters"] == pytest.approx(runs.parameters(one).tolist(), abs=5e-5)
