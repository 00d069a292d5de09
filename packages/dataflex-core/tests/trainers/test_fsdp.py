"""Runs whose parameters FSDP2 really spreads over two ranks: what may be resumed, what is refused, what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsdp_runs
import pytest
from gloo import run_on_two_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fsdp")
    run_on_two_ranks(fsdp_runs.every_run, folder)
    said: dict[str, Any] = json.loads((folder / "said-0.json").read_text(encoding="utf-8"))
    assert all(said[name]["sharded"] for name in ("full", "full-resumed", "lora", "shards"))
    return folder, said


def test_full_fine_tuning_under_the_whole_state_resumes_to_the_same_weights(runs: tuple[Path, dict[str, Any]]) -> None:
    folder, said = runs
    assert said["full"]["said"] == said["full-resumed"]["said"] == ""
    whole, resumed = ((folder / name / "model.safetensors").read_bytes() for name in ("full", "full-resumed"))
    assert whole == resumed
    decided = [(folder / name / "decisions" / "step-00000002.npy").read_bytes() for name in ("full", "full-resumed")]
    assert decided[0] == decided[1]


@pytest.mark.parametrize("name", ["lora", "shards"])
def test_what_the_trainer_would_load_wrongly_is_refused(runs: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, said = runs
    told = said[f"{name}-resumed"]["said"]
    assert told.startswith(f"cannot resume from {folder / f'{name}-resumed' / 'checkpoint-2'}: under FSDP")
    assert not (folder / f"{name}-resumed" / "decisions.jsonl").exists()  # before its first step


def test_a_run_without_a_final_model_names_its_last_checkpoint(runs: tuple[Path, dict[str, Any]]) -> None:
    folder, said = runs
    assert not list((folder / "shards").glob("*.safetensors"))
    assert "no final model was written" in said["shards"]["said"]
    assert f"The last checkpoint is {folder / 'shards' / 'checkpoint-4'}" in said["shards"]["said"]
    assert said["lora"]["said"] == "" and (folder / "lora" / "adapter_model.safetensors").is_file()
