"""Every component trains two boundaries under FSDP2, resumes exactly, and chooses what it chooses under DDP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gloo import run_on_two_ranks
from safetensors.numpy import load_file
from sharded_components import RUNS, every_component

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]  # the first test waits for all runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("components")
    run_on_two_ranks(every_component, folder)
    said: dict[str, Any] = json.loads((folder / "said-1.json").read_text(encoding="utf-8"))
    return folder, said


@pytest.mark.parametrize("name", RUNS)
def test_it_trains_and_resumes_to_the_same_weights(runs: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, said = runs
    for kind in ("fsdp2", "resumed"):
        assert said.get(f"{name} {kind}") == {"said": "", "sharded": True}, said[f"{name} fsdp2"]
    whole, resumed = (load_file(folder / f"{name} {kind}" / "gathered.st") for kind in ("fsdp2", "resumed"))
    assert all(np.array_equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("name", RUNS)
def test_it_decides_as_under_ddp(runs: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, said = runs
    assert said[f"{name} ddp"] == {"said": "", "sharded": False}
    ours, theirs = (sorted((folder / f"{name} {kind}" / "decisions").glob("*.npy")) for kind in ("fsdp2", "ddp"))
    assert [path.name for path in ours] == [path.name for path in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.load(one), np.load(other))
    last = [load_file(folder / f"{name} {kind}" / "gathered.st") for kind in ("fsdp2", "ddp")]
    for key, value in last[0].items():
        np.testing.assert_allclose(value, last[1][key], atol=1e-5, rtol=0)
