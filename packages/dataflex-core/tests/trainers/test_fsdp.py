"""Runs whose parameters FSDP2 really spreads over two ranks: resumed to the same weights, and a final model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsdp_runs
import pytest
import torch
from gloo import run_on_two_ranks
from safetensors.torch import load_file
from transformers import Qwen2ForCausalLM

pytestmark = pytest.mark.slow

NAMES = [name for name, _, _ in fsdp_runs.KINDS]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fsdp")
    run_on_two_ranks(fsdp_runs.every_run, folder)
    said: dict[str, Any] = json.loads((folder / "said-0.json").read_text(encoding="utf-8"))
    return folder, said


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_in_pieces_layer_by_layer(runs: tuple[Path, dict[str, Any]], name: str) -> None:
    assert runs[1][name] == runs[1][f"{name}-resumed"] == {"said": "", "sharded": True}


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_in_the_weights_and_moments_of_the_uninterrupted_one(
    runs: tuple[Path, dict[str, Any]], name: str
) -> None:
    folder, _ = runs
    ends = [load_file(folder / each / "gathered.st") for each in (name, f"{name}-resumed")]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    pieces = [
        json.loads((folder / each / "checkpoint-4" / "pytorch_model_fsdp_0" / "pieces.json").read_text("utf-8"))
        for each in (name, f"{name}-resumed")
    ]
    assert pieces[0] == pieces[1] and len(pieces[0]["ranks"]) == 2
    assert any(key.endswith("exp_avg_sq") for key in pieces[0]["ranks"][1]["moments"])
    decided = [(folder / each / "decisions" / "step-00000002.npy").read_bytes() for each in (name, f"{name}-resumed")]
    assert decided[0] == decided[1]


@pytest.mark.parametrize("name", ["full", "shards"])
def test_the_final_model_loads_in_one_plain_process_and_is_the_gathered_one(
    runs: tuple[Path, dict[str, Any]], name: str
) -> None:
    folder, _ = runs
    model, gathered = (
        Qwen2ForCausalLM.from_pretrained(folder / name),
        load_file(folder / name / "gathered.st"),
    )
    assert all(torch.equal(value, gathered[key]) for key, value in model.named_parameters())


@pytest.mark.parametrize("name", ["lora", "lora-shards"])
def test_the_final_adapter_is_the_gathered_one(runs: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, _ = runs
    gathered = load_file(folder / name / "gathered.st")
    adapter = load_file(folder / name / "adapter_model.safetensors")
    expected = {key.replace(".default", ""): value for key, value in gathered.items() if "lora_" in key}
    assert adapter.keys() == expected.keys() and all(torch.equal(adapter[key], expected[key]) for key in expected)


def test_a_load_that_forgets_adams_moments_ends_the_run_before_its_first_step(
    runs: tuple[Path, dict[str, Any]],
) -> None:
    folder, said = runs
    told = said["forgetful"]["said"]
    assert "the optimizer state that was loaded from" in told and "is not what was saved" in told
    assert not (folder / "forgetful" / "decisions.jsonl").exists()
