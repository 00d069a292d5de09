"""The mixer ado in real runs: what it decides, however the samples of a step are cut, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mixer_runs
import numpy as np
import pytest
import torch

PARAMS = {"block_steps": 1, "ignore_steps": 0, "first_fit": 20, "refit_steps": 5, "blend": 0.5}
KEYS = {"update_step": 8, "update_times": 4}  # 34 steps, of them 2 of the warm-up; the first law after step 22


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("ado") / "out"
    return out, mixer_runs.trained(out, "ado", PARAMS, keys=KEYS)


def asked_for(out: Path) -> list[list[float]]:
    return [line["proportions"] for line in mixer_runs.decided(out)]


def test_a_run_moves_its_proportions_after_the_first_fit_and_records_the_laws(whole: tuple[Path, Any]) -> None:
    out, made = whole
    lines = mixer_runs.decided(out)
    assert [line["proportions"] for line in lines[:3]] == [pytest.approx([0.5, 0.25, 0.25])] * 3
    assert lines[3]["proportions"] != pytest.approx([0.5, 0.25, 0.25], abs=1e-3)
    assert lines[-1]["loss_exponents"] == made.component.laws[:, 2].tolist()
    assert any("dataflex/learning_speeds/noise" in entry for entry in made.state.log_history)


@pytest.mark.parametrize("step", [20, 24])
def test_a_resumed_run_is_the_run_that_never_stopped(whole: tuple[Path, Any], tmp_path: Path, step: int) -> None:
    again = mixer_runs.stopped_and_resumed(tmp_path / "out", step, "ado", PARAMS, keys=KEYS)
    assert again.component.laws.tolist() == whole[1].component.laws.tolist()
    assert asked_for(tmp_path / "out") == asked_for(whole[0])
    assert torch.equal(mixer_runs.weights(again), mixer_runs.weights(whole[1]))


def test_beside_a_selector_it_sets_the_shares_that_are_drawn(tmp_path: Path) -> None:
    mixer_runs.trained(tmp_path / "out", "ado", keys=mixer_runs.beside_a_selector("ado", PARAMS, **KEYS))
    asked = mixer_runs.of_the_mixer(tmp_path / "out")
    assert asked[3]["proportions"] != pytest.approx([0.5, 0.25, 0.25], abs=1e-3)
    assert np.abs(np.array(asked[3]["samples"]) - 64 * np.array(asked[3]["proportions"])).max() <= 2


def test_micro_batches_change_nothing(whole: tuple[Path, Any], tmp_path: Path) -> None:
    mixer_runs.trained(tmp_path / "out", "ado", PARAMS, keys=KEYS, batch=2, accumulation=4)
    assert np.allclose(asked_for(tmp_path / "out"), asked_for(whole[0]), atol=0.02)


def test_two_ranks_have_one_law_and_decide_as_one(whole: tuple[Path, Any], tmp_path: Path) -> None:
    mixer_runs.on_two_ranks(tmp_path, "ado", PARAMS, keys=KEYS)
    assert np.allclose(asked_for(tmp_path / "out"), asked_for(whole[0]), atol=0.02)
