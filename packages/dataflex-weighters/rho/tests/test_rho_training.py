"""rho in training: the reference live and from a file, the same however a step is cut, resume, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rho_runs as runs
import torch
from gloo import run_on_two_ranks

from dataflex import ConfigError
from dataflex.decisions import DecisionLog
from dataflex.record.plans import result_name
from dataflex.scoring.reference.loss_file import LossFile
from dataflex_weighters_rho.weighter import RhoWeighter


def losses_of(model: Any) -> np.ndarray[Any, Any]:
    """Mean loss of each row's targets, by a plain loop."""
    found = []
    for row in runs.POOL:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, 1:-1].double()
        found.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][2:]))))
    return np.array(found)


@pytest.mark.parametrize(("source", "tolerance"), [("live", 1e-5), ("cached", 4e-3)])
def test_scores_are_the_losses_less_those_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, tolerance: float
) -> None:
    noted: list[float] = []
    monkeypatch.setattr(RhoWeighter, "on_step", lambda self, stats: noted.extend(stats.noted.tolist()), raising=False)
    params = {"reference": runs.reference(tmp_path / "reference"), "reference_losses": source}
    runs.trained(tmp_path, params, max_steps=3, learning_rate=0.0)
    expected = losses_of(runs.model()) - losses_of(runs.model(3))
    assert len(noted) == 16 and max(np.abs(expected - score).min() for score in noted) < tolerance


def test_the_update_does_not_depend_on_how_a_step_is_cut_nor_on_ranks(tmp_path: Path) -> None:
    params = {"reference": runs.reference(tmp_path / "reference"), "reference_losses": "live"}
    whole = runs.trained(tmp_path / "whole", params)
    parts = runs.trained(tmp_path / "parts", params, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert whole.state.log_history[-2]["dataflex/weight_max"] > 1
    assert runs.parameters(parts).numpy() == pytest.approx(runs.parameters(whole).numpy(), abs=5e-5)
    run_on_two_ranks(runs.rank_trains, tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == pytest.approx(runs.parameters(whole).tolist(), abs=1e-4)


def test_a_resumed_run_trains_to_the_same_bits_and_computes_no_reference_loss_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"reference": runs.reference(tmp_path / "reference")}
    whole = runs.trained(tmp_path / "whole", params)
    saves = {"save_strategy": "steps", "save_steps": 10}
    stopped = runs.trainer(tmp_path / "cut", params, **saves)
    stopped.add_callback(runs.StopAt(10))
    stopped.train()
    monkeypatch.setattr(LossFile, "write", lambda *_: pytest.fail("a reference loss was computed again"))
    resumed = runs.trainer(tmp_path / "cut", params, **saves)
    checkpoint = str(tmp_path / "cut" / "out" / "checkpoint-10")
    resumed.train(resume_from_checkpoint=checkpoint)
    assert torch.equal(runs.parameters(resumed), runs.parameters(whole))
    monkeypatch.undo()
    runs.reference(tmp_path / "reference", seed=8)
    with pytest.raises(ConfigError, match="reference"):
        runs.trainer(tmp_path / "cut", params, **saves).train(resume_from_checkpoint=checkpoint)


@pytest.mark.parametrize("source", ["live", "cached"])
def test_the_selector_takes_the_rows_of_largest_excess(tmp_path: Path, source: str) -> None:
    params = {"reference": runs.reference(tmp_path / "reference"), "reference_losses": source}
    runs.trained(tmp_path, params, kind="dynamic_select", learning_rate=0.0, max_steps=9)
    excess = losses_of(runs.model()) - losses_of(runs.model(3))
    chosen = np.load(tmp_path / "out" / result_name(1))
    assert len(chosen) == 32 and len(set(chosen.tolist())) == 32
    left = np.setdiff1d(np.arange(64), chosen)
    assert excess[chosen].min() > excess[left].max() - 8e-3  # two losses in half precision
    assert losses_of(runs.model())[chosen].min() < losses_of(runs.model())[left].max() - 0.1  # not by loss alone
    first = next(iter(DecisionLog(tmp_path / "out")))
    quantiles = np.quantile(excess, [0, 0.25, 0.5, 0.75, 1]).tolist()
    assert first.metrics["score_quantiles"] == pytest.approx(quantiles, abs=4e-3)


def test_a_reference_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    made = runs.trainer(tmp_path, {"reference": runs.reference(tmp_path / "reference")})
    made.model.resize_token_embeddings(48)
    with pytest.raises(ConfigError, match="smaller vocabulary"):
        made.train()
