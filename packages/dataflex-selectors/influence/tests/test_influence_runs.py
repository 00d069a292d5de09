"""Whole runs of a tiny model: labels from training to the choice, resumed, on two ranks, and by embeddings."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks
from influence_cases import model, plans, train_rank, trainer, weights
from transformers import TrainerCallback

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            control.should_training_stop = True


def decisions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]


def test_a_run_chooses_by_the_labels_of_its_own_steps(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.train()
    labels = made.component._labels
    assert len(labels) == 64 and labels.directions.tolist() == [1] * 64
    assert np.abs(labels.values).max() <= 1  # mean cosines
    first, second = decisions(tmp_path)
    assert first["metrics"]["labels"] == 40 and second["metrics"]["labels"] == 52
    assert first["metrics"]["stage_influence"] == pytest.approx(labels.values[:40].mean())
    assert second["metrics"]["stage_influence"] == pytest.approx(labels.values[40:52].mean())
    chosen = plans(tmp_path)
    share = np.mean([row < 24 for name, rows in chosen.items() if name != "plan-0.npy" for row in rows])
    assert share > 0.5  # a third of the pool is in the target's words
    logged = [entry["dataflex/influence"] for entry in made.state.log_history if "loss" in entry]
    np.testing.assert_allclose(logged, labels.values[:, 0].reshape(16, 4).mean(axis=1))


def test_labels_leave_the_warm_up_bit_equal_to_that_of_another_selector(tmp_path: Path) -> None:
    ends = []
    for name in ("influence", "random"):
        made = trainer(tmp_path / name, name=name, gradient_accumulation_steps=2, per_device_train_batch_size=2)
        made.add_callback(StopAt(10))
        made.train()
        ends.append(weights(made))
    assert torch.equal(*ends)


@pytest.mark.parametrize("step", [5, 11])
def test_a_run_that_goes_on_chooses_what_one_that_was_not_stopped_does(tmp_path: Path, step: int) -> None:
    params = {"refresh": 4, "targets": None}
    whole = trainer(tmp_path / "whole", params=params)
    whole.train()
    saves = {"save_strategy": "steps", "save_steps": 1, "params": params}
    first = trainer(tmp_path / "again", **saves)
    first.add_callback(StopAt(step))
    first.train()
    again = trainer(tmp_path / "again", **saves)
    again.train(resume_from_checkpoint=True)
    assert plans(tmp_path / "again") == plans(tmp_path / "whole")
    assert torch.equal(weights(again), weights(whole))
    mine, theirs = again.component.state_dict(), whole.component.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        equal = np.array_equal if isinstance(value, (np.ndarray, torch.Tensor)) else lambda a, b: a == b
        assert equal(value, theirs[name]), name


def test_embeddings_serve_as_features(tmp_path: Path) -> None:
    made = trainer(tmp_path, params={"features": "embedding", "tokens": 8})
    made.train()
    metrics = [each["metrics"] for each in decisions(tmp_path)]
    assert all(each["scored"] == 72 and each["embedding_seconds"] >= 0 for each in metrics)


def test_the_denominator_of_adam_is_read_in_the_warm_up(tmp_path: Path) -> None:
    made = trainer(tmp_path, params={"preconditioner": "linear", "refresh": 2}, of=model(lora=False))
    made.train()
    assert len(made.component._labels) == 56  # none of the first two steps
    assert np.abs(made.component._labels.values).max() > 1


def test_two_ranks_choose_what_one_does_and_go_on_after_a_kill(tmp_path: Path) -> None:
    run_on_two_ranks(train_rank, tmp_path)
    alone = trainer(
        tmp_path / "alone",
        of=model(lora=False, dtype=torch.float64),
        params={"refresh": 4},
        gradient_accumulation_steps=1,
    )
    alone.train()
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["rows"] == alone.component._labels.rows.tolist()
    np.testing.assert_allclose(ranks[0]["labels"], alone.component._labels.values, atol=1e-6)
    assert ranks[0]["plans"] == plans(tmp_path / "alone")
    assert ranks[0]["equal"]
    for name in ("rows", "labels", "plans"):
        assert ranks[0][f"again {name}"] == ranks[0][name]


@pytest.mark.parametrize(
    ("params", "made"),
    [
        ({}, 1),
        ({"refresh": 4}, 1 + 3),  # in begin, at steps 4, 8 and 12 of 16
        ({"refresh": 5}, 1 + 3),
        ({"refresh": 16}, 1),
        ({"refresh": 2, "preconditioner": "linear"}, 7),  # none in begin
    ],
)
def test_the_first_decision_says_what_making_directions_costs(
    tmp_path: Path, params: dict[str, Any], made: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = trainer(tmp_path, params=params, of=model(lora=False))
    with caplog.at_level(logging.INFO, "dataflex"):
        run.train()
    assert run.component._aim.number == made
    first, second = (each["metrics"] for each in decisions(tmp_path))
    # two passes over 6 rows each time, at 4 rows a step: 3 steps
    assert first["selection_steps"] == pytest.approx(3 * made)
    assert first["selection_worth"] == pytest.approx(1 + 3 * made / 16)
    assert "selection_steps" not in second
    assert f"about as long as {3 * made} of its 16 steps" in caplog.text


def test_embeddings_for_features_are_paid_for_once(tmp_path: Path) -> None:
    run = trainer(tmp_path, params={"features": "embedding"}, of=model(lora=False))
    run.train()
    # q and k, v with biases, o; the three of the MLP; two norms; and the head
    block = 16 * 16 + 16 + 2 * (16 * 8 + 8) + 16 * 16 + 3 * 16 * 32 + 2 * 16
    share = block / (block + 40 * 16)
    cost = decisions(tmp_path)[0]["metrics"]["selection_steps"]
    assert cost == pytest.approx(3 + 72 * share / 3 / 4)  # no target is embedded
