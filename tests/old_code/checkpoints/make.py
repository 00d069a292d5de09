"""Makes the checkpoints in this folder; run it with the code of commit b7b0e3e, in an empty folder.

``python make.py DESTINATION`` trains one tiny run of each train type, keeps the checkpoint of step 4 (6 of the weight
run) as ``DESTINATION/TRAIN_TYPE/checkpoint-N`` and, under ``DESTINATION/TRAIN_TYPE/expected``, what that code makes of
it: ``resumed.safetensors``, the weights at the end of a resume; ``result.json``, its losses by step; ``scores.json``,
the scores of the selector ``loss`` at the checkpoint.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from dataflex.testing.tiny import tiny_rows, write_dataset, write_model

HERE = Path(__file__).parent
BASE: dict[str, Any] = {
    "model_name_or_path": "tiny/model",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_target": "all",
    "lora_rank": 1,
    "dataset": "web,code",
    "dataset_dir": "tiny/data",
    "template": "qwen3_nothink",
    "cutoff_len": 96,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1.0e-2,
    "lr_scheduler_type": "cosine",
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 4,
    "report_to": "none",
    "seed": 3,
    "use_cpu": True,
}
STAGES = {"warmup_step": 2, "update_step": 4, "update_times": 2}
SHARES = {"init_mixture_proportions": [0.6, 0.4]}
FULL = {"finetuning_type": "full", "lora_target": None, "lora_rank": None}
RUNS: dict[str, dict[str, Any]] = {
    "dynamic_select": {"component_name": "loss", **STAGES},
    "dynamic_mix": {"component_name": "loss", **STAGES, **SHARES, **FULL},
    "static_mix": {"train_step": 10, **SHARES},
    "dynamic_weight": {
        "component_name": "loss",
        "warmup_step": 1,
        "train_step": 10,
        "dataset": "web",
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "save_steps": 6,
    },
}


def write_inputs(folder: Path) -> None:
    """Write the model and the data of all runs to ``folder``/tiny."""
    write_model(folder / "tiny/model", hidden=8, layers=1)
    write_dataset(folder / "tiny/data", web=tiny_rows(64), code=tiny_rows(24, seed=1, longest=4))


def write_run_file(folder: Path, train_type: str) -> Path:
    """Write a run file whose relative paths hold in ``folder``."""
    keys = {**BASE, "train_type": train_type, "output_dir": f"runs/{train_type}", **RUNS[train_type]}
    path = folder / f"{train_type}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}))
    return path


def _make(train_type: str, destination: Path) -> None:
    from pyarrow import parquet

    from dataflex.cli.score import ScoreOptions, run_score
    from dataflex.cli.train import run_train

    run_file, out = write_run_file(Path(), train_type), Path("runs") / train_type
    run_train(run_file, [], [])
    step = RUNS[train_type].get("save_steps", BASE["save_steps"])
    kept = out / f"checkpoint-{step}"
    for other in set(out.glob("checkpoint-*")) - {kept}:
        shutil.rmtree(other)
    shutil.copytree(kept, destination / train_type / kept.name)
    run_train(run_file, [f"resume_from_checkpoint={kept}"], [])

    expected = destination / train_type / "expected"
    expected.mkdir()
    (weights,) = out.glob("*.safetensors")
    shutil.copy(weights, expected / "resumed.safetensors")
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    (expected / "result.json").write_text(json.dumps({"losses": losses}, indent=1) + "\n")

    options = ScoreOptions(component="loss", out=Path("scores") / train_type, checkpoint=kept, keep_top=None, keep=None)
    run_score(run_file, [], [], options)
    scores = parquet.read_table(options.out / "scores.parquet")["score"].to_pylist()
    (expected / "scores.json").write_text(json.dumps(scores) + "\n")


if __name__ == "__main__":
    write_inputs(Path())
    for name in RUNS:
        _make(name, Path(sys.argv[1]))
