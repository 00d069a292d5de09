"""Checkpoints that commit b7b0e3e wrote, one of each train type, resume and score as they did under it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow

STORED = Path(__file__).parent / "checkpoints"
Caplog = pytest.LogCaptureFixture
UNCHECKED = "written by an earlier dataflex-core: it holds no files.json and no keys.json"
TRAIN_TYPES = ("dynamic_select", "dynamic_mix", "static_mix", "dynamic_weight")


def _maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_old_checkpoints", STORED / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Path, Path, Path]]:
    """The run file of a train type, its checkpoint in the output directory, and what is expected of it."""
    monkeypatch.chdir(tmp_path)
    maker = _maker()
    maker.write_inputs(Path())

    def stored(train_type: str) -> tuple[Path, Path, Path]:
        (checkpoint,) = (STORED / train_type).glob("checkpoint-*")
        copy = Path("runs") / train_type / checkpoint.name
        shutil.copytree(checkpoint, copy)
        return maker.write_run_file(Path(), train_type), copy, STORED / train_type / "expected"

    return stored


@pytest.mark.parametrize("train_type", TRAIN_TYPES)
def test_an_old_checkpoint_is_resumed_to_the_weights_its_own_code_gave(
    train_type: str, stored: Callable[[str], tuple[Path, Path, Path]], train: Callable[..., None], caplog: Caplog
) -> None:
    run_file, checkpoint, expected = stored(train_type)
    train(run_file, f"resume_from_checkpoint={checkpoint}")
    assert caplog.text.count(UNCHECKED) == 1

    (weights,) = checkpoint.parent.glob("*.safetensors")
    resumed, wanted = load_file(weights), load_file(expected / "resumed.safetensors")
    assert resumed.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(resumed[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    log = json.loads((checkpoint.parent / "trainer_state.json").read_text())["log_history"]
    losses = {str(entry["step"]): entry["loss"] for entry in log if "loss" in entry}
    assert losses == pytest.approx(json.loads((expected / "result.json").read_text())["losses"], rel=1e-5)


@pytest.mark.parametrize("train_type", TRAIN_TYPES)
def test_an_old_checkpoint_is_scored_as_its_own_code_scored_it(
    train_type: str, stored: Callable[[str], tuple[Path, Path, Path]], caplog: Caplog
) -> None:
    from dataflex.cli.score import ScoreOptions, run_score

    run_file, checkpoint, expected = stored(train_type)
    out = Path("scores")
    options = ScoreOptions(component="loss", out=out, checkpoint=checkpoint, keep_top=None, keep=None)
    run_score(run_file, [], [], options)
    assert caplog.text.count(UNCHECKED) == 1
    scores = parquet.read_table(out / "scores.parquet")["score"].to_pylist()
    np.testing.assert_allclose(scores, json.loads((expected / "scores.json").read_text()), rtol=0, atol=1e-5)
