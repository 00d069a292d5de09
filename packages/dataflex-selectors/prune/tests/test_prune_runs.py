"""Whole runs: weights that act, a ratio of nothing, a kill, two ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import prune_runs as runs
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.checkpoint import state
from dataflex.decisions import DecisionLog


def test_rows_of_low_loss_are_left_out_of_later_passes_and_weigh_more(tmp_path: Path) -> None:
    made = runs.trained(tmp_path, params={"until": 1.0}, save_strategy="steps", save_steps=1)
    rows = [row for plan in runs.plans(tmp_path) for row in plan]
    assert sorted(rows[:16]) == list(range(16))
    counts = np.bincount(rows[16:], minlength=16)
    assert counts[1::2].sum() < counts[0::2].sum()  # the odd ones are soon learnt
    metrics = [dict(decision.metrics) for decision in DecisionLog(tmp_path / "out")]
    assert [one["selected"] for one in metrics] == [16] * 5 and metrics[-1]["skipped"] > 0
    kept = [state.load(tmp_path / "out" / f"checkpoint-{step}") for step in (3, 7, 11, 18)]
    assert kept[0].weights is None  # the first pass
    heavy = [np.array(one.weights) for one in kept if one.weights is not None]
    assert heavy and all(weights.min() == 1 and weights.max() > 1 for weights in heavy)
    known = made.component.state_dict()["scores"]
    assert np.isfinite(known).all() and known[1::2].mean() < known[0::2].mean()


def test_a_ratio_of_nothing_trains_as_random_selection_does_bit_for_bit(tmp_path: Path) -> None:
    stock = runs.trained(tmp_path / "random", "random")
    made = runs.trained(tmp_path / "prune", params={"ratio": 0.0})
    assert runs.plans(tmp_path / "random") == runs.plans(tmp_path / "prune")
    assert torch.equal(runs.parameters(stock), runs.parameters(made))
    pruned = runs.trained(tmp_path / "other")
    assert not torch.equal(runs.parameters(stock), runs.parameters(pruned))


@pytest.mark.parametrize("step", [8, 11])
@pytest.mark.parametrize("score", ["loss", "es"])
def test_a_run_that_is_stopped_ends_as_one_that_is_not(tmp_path: Path, step: int, score: str) -> None:
    whole = runs.trained(tmp_path / "whole", params={"score": score})
    again = runs.stopped_and_resumed(tmp_path / "again", step, params={"score": score})
    assert runs.plans(tmp_path / "whole") == runs.plans(tmp_path / "again")
    assert torch.equal(runs.parameters(whole), runs.parameters(again))


def test_two_ranks_choose_and_train_as_one(tmp_path: Path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    alone = runs.trained(tmp_path / "alone")
    assert runs.plans(tmp_path / "ranks") == runs.plans(tmp_path / "alone") == runs.plans(tmp_path / "resumed")
    for rank in range(2):
        told = json.loads((tmp_path / f"told-{rank}.json").read_text())
        assert told["equal"] and told["skipped"] == alone.component.state_dict()["skipped"] > 0
        torch.testing.assert_close(torch.tensor(told["parameters"]), runs.parameters(alone), rtol=0, atol=1e-4)
