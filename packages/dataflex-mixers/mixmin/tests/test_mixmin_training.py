"""``dataflex mixmin`` with real runs of a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dataflex.testing.tiny import tiny_rows, write_dataset, write_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mixmin")]


@pytest.mark.timeout(1500)  # six processes, each of which imports LlamaFactory
def test_models_of_the_domains_find_a_mixture_that_the_final_run_trains_in(tmp_path: Path) -> None:
    pytest.importorskip("dataflex_selectors_loss")
    write_model(tmp_path / "model")
    write_dataset(tmp_path / "data", web=tiny_rows(24), code=tiny_rows(12, seed=1), held=tiny_rows(6, seed=2))
    keys = {
        "model_name_or_path": str(tmp_path / "model"),
        "stage": "sft",
        "template": "qwen",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "web,code",
        "dataset_dir": str(tmp_path / "data"),
        "cutoff_len": 64,
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 2,
        "learning_rate": 1.0e-3,
        "max_steps": 4,
        "report_to": "none",
        "use_cpu": True,
        "seed": 3,
        "mixmin": {"models": {"train_step": 3}, "target": "held"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "dataflex", "mixmin", str(tmp_path / "run.yaml"), "--jobs", "2"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=1400)
    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0
    found = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert found["names"] == ["web", "code"] and sum(found["average"]) == pytest.approx(1)
    assert found["rows"] == 6 and found["loss"] <= min(found["loss_of_each"]) + 1e-9
    state = json.loads((tmp_path / "out" / "final" / "trainer_state.json").read_text())
    assert state["global_step"] == 4
