"""Whole runs of a tiny model: windows that move, a kill, two ranks."""

from __future__ import annotations

import json
from pathlib import Path

import delta_cases as runs
import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def trained(folder: Path, **options: object) -> object:
    made = runs.trainer(folder, **options)  # type: ignore[arg-type]
    made.train()
    return made


def test_windows_move_over_rows_whose_loss_falls(tmp_path: Path) -> None:
    trained(tmp_path)
    metrics = [dict(decision.metrics) for decision in DecisionLog(tmp_path)]
    assert "window_start" not in metrics[0] and metrics[0]["scored"] == 24
    places = [one["window_start"] / max(1, one["improved"] - one["window_width"]) for one in metrics[1:]]
    assert places == sorted(places) and places[0] == 0 and places[-1] == 1
    assert all(0 <= one["seen_share"] <= 1 for one in metrics[1:])
    # a forward pass of 24 rows at each of 5 boundaries, beside 4 rows of three each a step
    assert metrics[0]["selection_steps"] == pytest.approx(5 * 24 / 3 / 4)


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_is_stopped_ends_as_one_that_is_not(tmp_path: Path, step: int) -> None:
    whole = trained(tmp_path / "whole")
    saves = {"save_strategy": "steps", "save_steps": step}
    first = runs.trainer(tmp_path / "again", **saves)
    first.add_callback(runs.StopAt(step))
    first.train()
    again = runs.trainer(tmp_path / "again", **saves)
    again.train(resume_from_checkpoint=True)
    assert runs.plans(tmp_path / "again") == runs.plans(tmp_path / "whole")
    assert torch.equal(runs.weights(again), runs.weights(whole))
    mine, theirs = again.component.state_dict(), whole.component.state_dict()  # type: ignore[attr-defined]
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert np.array_equal(value, theirs[name]), name


def test_two_ranks_choose_what_one_does(tmp_path: Path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    alone = trained(tmp_path / "alone")
    state = alone.component.state_dict()  # type: ignore[attr-defined]
    assert runs.plans(tmp_path / "ranks") == runs.plans(tmp_path / "alone")
    for rank in range(2):
        told = json.loads((tmp_path / f"told-{rank}.json").read_text())
        np.testing.assert_allclose(told["baseline"], state["baseline"], atol=1e-9)
        assert told["seen"] == state["seen"].tolist()
