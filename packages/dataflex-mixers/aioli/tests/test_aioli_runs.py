"""The mixer aioli in real runs: its turns, resumed within and between sweeps, on two ranks, aiming at an eval set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mixer_runs
import numpy as np
import pytest
import torch

PARAMS = {"rounds": 1, "round_steps": 10, "max_samples": 12, "eta": 2.0}
KEYS = {"update_step": 2, "update_times": 8}  # 18 steps, 2 of the warm-up: sweeps begin at 2 and 12 and end at 8 and 18


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("aioli") / "out"
    return out, mixer_runs.trained(out, "aioli", PARAMS, keys=KEYS)


def asked_for(out: Path) -> list[list[float]]:
    return [line["proportions"] for line in mixer_runs.decided(out)]


def test_each_domain_has_its_turn_and_what_was_found_holds_for_the_round(whole: tuple[Path, Any]) -> None:
    shares = asked_for(whole[0])
    hot = [int(np.argmax(each)) for each in shares[:3]]
    assert sorted(hot) == [0, 1, 2] and all(max(each) == 0.625 for each in shares[:3])
    assert shares[3] == shares[4] != [0.5, 0.25, 0.25]
    assert max(shares[5]) == 0.625
    line = mixer_runs.decided(whole[0])[3]
    assert sum(line["influence"]) == pytest.approx(1) and line["found_proportions"] == shares[3]


@pytest.mark.parametrize("step", [5, 10])
def test_a_run_resumed_within_or_after_a_sweep_is_the_run_that_never_stopped(
    whole: tuple[Path, Any], tmp_path: Path, step: int
) -> None:
    again = mixer_runs.stopped_and_resumed(tmp_path / "out", step, "aioli", PARAMS, keys=KEYS)
    assert asked_for(tmp_path / "out") == asked_for(whole[0])
    assert torch.equal(mixer_runs.weights(again), mixer_runs.weights(whole[1]))


def test_beside_a_selector_it_sweeps_as_alone(tmp_path: Path) -> None:
    mixer_runs.trained(tmp_path / "out", "aioli", keys=mixer_runs.beside_a_selector("aioli", PARAMS, **KEYS))
    shares = [line["proportions"] for line in mixer_runs.of_the_mixer(tmp_path / "out")]
    assert sorted(int(np.argmax(each)) for each in shares[:3]) == [0, 1, 2]
    assert shares[3] == shares[4] != [0.5, 0.25, 0.25]


def test_two_ranks_decide_as_one(whole: tuple[Path, Any], tmp_path: Path) -> None:
    mixer_runs.on_two_ranks(tmp_path, "aioli", PARAMS, keys=KEYS)
    assert np.allclose(asked_for(tmp_path / "out"), asked_for(whole[0]), atol=1e-3)


def test_losses_of_eval_sets_are_measured_in_place_of_the_domains(tmp_path: Path) -> None:
    pairs = mixer_runs.pool()[72:]
    made = mixer_runs.trainer(tmp_path / "out", "aioli", {**PARAMS, "targets": ["eval"]}, keys=KEYS)
    made.eval_dataset = pairs
    made.train()
    line = mixer_runs.decided(tmp_path / "out")[3]
    assert int(np.argmax(line["influence"])) == 2


def test_fixed_rows_are_the_same_at_each_boundary_and_others_are_drawn_anew(tmp_path: Path) -> None:
    made = mixer_runs.trainer(tmp_path / "out", "aioli", PARAMS, keys=KEYS, learning_rate=0.0)
    seen: dict[str, list[float]] = {"fixed": [], "step": []}
    make = made._make_engine

    def watched() -> Any:
        engine = make()
        mixer, mix = made.component, made.component.mix

        def mixed(model: Any, step_id: int, **kwargs: Any) -> Any:
            for rows, losses in seen.items():
                losses.append(mixer.context.evaluate("noise", 6, rows=rows))
            return mix(model, step_id, **kwargs)

        mixer.mix = mixed
        return engine

    made._make_engine = watched
    made.train()
    assert len(set(seen["fixed"])) == 1 and len(set(seen["step"])) > 4
