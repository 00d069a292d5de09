"""``dataflex regmix`` with real runs of a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dataflex.testing.tiny import tiny_rows, write_dataset, write_model
from dataflex_mixers_regmix.table import read_runs

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("regmix")]


@pytest.mark.timeout(1500)  # eight processes, each of which imports LlamaFactory
def test_small_runs_find_a_mixture_that_the_final_run_trains_in(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_dataset(tmp_path / "data", web=tiny_rows(24), code=tiny_rows(12, seed=1), held=tiny_rows(6, seed=2))
    keys = {
        "model_name_or_path": str(tmp_path / "model"),
        "stage": "sft",
        "template": "qwen",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "web,code",
        "eval_dataset": "held",
        "dataset_dir": str(tmp_path / "data"),
        "cutoff_len": 64,
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 2,
        "learning_rate": 1.0e-3,
        "max_steps": 4,
        "report_to": "none",
        "use_cpu": True,
        "seed": 3,
        "regmix": {"runs": {"count": 4, "train_step": 2}},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1"}
    # Four runs of two steps rank nothing: what is tested is that all of it goes through.
    command = [sys.executable, "-m", "dataflex", "regmix", str(tmp_path / "run.yaml"), "--force", "--jobs", "2"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=1400)
    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0
    out = tmp_path / "out"
    runs, found = read_runs(out / "runs.csv"), json.loads((out / "weights.json").read_text())
    assert runs.domains == ("web", "code") and runs.sets == ("held",) and len(runs.losses_NM) == 5
    assert found["names"] == ["web", "code"] and sum(found["average"]) == pytest.approx(1)
    assert found["prior"] == pytest.approx(runs.mixtures_NK[0].tolist()) and found["prior"][0] > found["prior"][1]
    state = json.loads((out / "final" / "trainer_state.json").read_text())
    assert state["global_step"] == 4
