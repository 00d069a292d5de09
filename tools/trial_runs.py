"""Runs of four steps on a tiny model, one of each kind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clean_environment import CleanEnvironment
from commands import run

STEPS = 4

_RUN = {
    "model_name_or_path": "tiny/model",
    "dataset": "web",
    "dataset_dir": "tiny/data",
    "template": "qwen3_nothink",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_target": "all",
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
}
_BOUNDARY = {"warmup_step": 2, "update_step": 2, "update_times": 1}
_KINDS: dict[str, dict[str, Any]] = {
    "selector": {"train_type": "dynamic_select", **_BOUNDARY},
    "mixer": {
        "train_type": "dynamic_mix",
        **_BOUNDARY,
        "dataset": "web,code",
        "mixture_sample_rule": "mixture",
        "init_mixture_proportions": [0.5, 0.5],
    },
    "weighter": {"train_type": "dynamic_weight", "warmup_step": 2, "train_step": STEPS},
    "orderer": {"train_type": "dynamic_order", "component_params": {"by": "length"}, "train_step": STEPS},
}


def write_tiny(environment: CleanEnvironment, folder: Path) -> None:
    """Write the model and data sets that the runs name."""
    run(environment.python, "-m", "dataflex.testing.tiny", folder / "tiny", cwd=folder)


def train(environment: CleanEnvironment, kind: str, name: str, folder: Path) -> None:
    """Train with a component."""
    environment.dataflex("train", run_file(kind, name, folder).name, cwd=folder)
    expect_steps(folder / "runs" / f"{kind}-{name}")


def run_file(kind: str, name: str, folder: Path) -> Path:
    """Write the run file of a component, which trains into ``runs/KIND-NAME``."""
    file = folder / f"{kind}-{name}.json"
    keys = {**_RUN, **_KINDS[kind], "component_name": name, "output_dir": f"runs/{kind}-{name}"}
    file.write_text(json.dumps(keys), encoding="utf-8")
    return file


def expect_steps(out: Path) -> None:
    """End this process unless a run made its four steps."""
    state = json.loads((out / "trainer_state.json").read_text(encoding="utf-8"))
    if state["global_step"] != STEPS:
        sys.exit(f"{out} ended after {state['global_step']} steps, not {STEPS}.")
