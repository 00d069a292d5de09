"""The mixer odm in real runs: what it decides, however the samples of a step are cut; resumed; from an old file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mixer_runs
import numpy as np
import pytest
import torch

from dataflex.spec import Kind
from dataflex.testing.subject import Subject, bind_values


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("odm") / "out"
    return out, mixer_runs.trained(out, "odm")


def asked_for(out: Path) -> list[list[float]]:
    return [line["proportions"] for line in mixer_runs.decided(out)]


def test_a_run_moves_its_proportions_by_losses_and_records_the_rewards(whole: tuple[Path, Any]) -> None:
    out, made = whole
    lines = mixer_runs.decided(out)
    assert len(lines) == 4  # three boundaries, and the end
    assert lines[0]["proportions"] == [0.5, 0.25, 0.25]  # nothing is known before the warm-up is over
    assert lines[2]["proportions"] != lines[1]["proportions"]
    assert lines[-1]["rewards"] == made.component.rewards.tolist()
    logged = [entry for entry in made.state.log_history if "dataflex/rewards/noise" in entry]
    assert logged[-1]["dataflex/rewards/noise"] == pytest.approx(lines[-1]["rewards"][1])


def test_micro_batches_change_nothing(whole: tuple[Path, Any], tmp_path: Path) -> None:
    out, made = whole
    other = mixer_runs.trained(tmp_path / "out", "odm", batch=2, accumulation=4)
    assert np.allclose(other.component.rewards, made.component.rewards, rtol=1e-4)
    assert np.allclose(asked_for(tmp_path / "out"), asked_for(out), atol=1e-5)


def test_two_ranks_decide_as_one(whole: tuple[Path, Any], tmp_path: Path) -> None:
    mixer_runs.on_two_ranks(tmp_path, "odm")
    assert np.allclose(asked_for(tmp_path / "out"), asked_for(whole[0]), atol=1e-5)


def test_beside_a_selector_it_sets_the_shares_that_are_drawn_and_resumes(tmp_path: Path) -> None:
    keys = mixer_runs.beside_a_selector("odm", update_times=2)
    made = mixer_runs.trained(tmp_path / "whole", "odm", keys=keys)
    asked = mixer_runs.of_the_mixer(tmp_path / "whole")
    assert asked[1]["proportions"] != asked[0]["proportions"]
    assert sum(asked[1]["samples"]) == 4 * 8
    assert np.abs(np.array(asked[1]["samples"]) - 32 * np.array(asked[1]["proportions"])).max() <= 2
    again = mixer_runs.stopped_and_resumed(tmp_path / "out", 7, "odm", keys=keys)
    assert torch.equal(mixer_runs.weights(again), mixer_runs.weights(made))


@pytest.mark.parametrize("step", [6, 9])
def test_a_resumed_run_is_the_run_that_never_stopped(whole: tuple[Path, Any], tmp_path: Path, step: int) -> None:
    again = mixer_runs.stopped_and_resumed(tmp_path / "out", step, "odm")
    assert again.component.rewards.tolist() == whole[1].component.rewards.tolist()
    assert asked_for(tmp_path / "out") == asked_for(whole[0])
    assert torch.equal(mixer_runs.weights(again), mixer_runs.weights(whole[1]))


def test_parameters_of_1x_are_aliases_or_ignored_with_what_to_use(caplog: pytest.LogCaptureFixture) -> None:
    written = {"alpha": 0.8, "warmup_steps": 10, "min_exploration_rate": 0.05, "initial_proportions": [0.5, 0.5]}
    with caplog.at_level(logging.WARNING, logger="dataflex"):
        bound = bind_values(Subject(name="odm", kind=Kind.MIXER).find(), {**written, "reward_scale": 10.0})
    assert bound.values["smoothing"] == 0.8 and bound.values["reward_scale"] == 10.0
    for name in ("warmup_step,", "init_mixture_proportions", "floor"):
        assert name.removesuffix(",") in caplog.text
