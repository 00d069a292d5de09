"""Whole runs under DeepSpeed's ZeRO-2: two ranks over gloo on a CPU."""

from __future__ import annotations

import json
import shutil

import numpy as np
from held_runs import run_to_the_end
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_SELECT, weights_digest
from zero import NEEDS_DEEPSPEED

pytestmark = NEEDS_DEEPSPEED

KEYS = NOTE_SELECT | {
    "component_name": "less",
    "eval_dataset": "val",
    "lora_dropout": 0.1,
    "per_device_train_batch_size": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "use_cpu": None,  # with it, accelerate leaves DeepSpeed out without a word
}
"""Boundaries at steps 2 and 5 of 8, the first of them right at a checkpoint."""


def test_less_chooses_as_under_ddp_and_a_resumed_run_ends_in_the_same_weights(workshop, monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = workshop.out / "zero2.json"
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    settings = dict.fromkeys(sizes, "auto") | {"zero_optimization": {"stage": 2}, "zero_allow_untested_optimizer": True}
    config.write_text(json.dumps(settings))
    run_to_the_end(workshop.run_file("ddp", **KEYS), ranks=2)
    run_to_the_end(workshop.run_file("whole", **KEYS, deepspeed=str(config)), ranks=2)
    shutil.copytree(workshop.out / "whole" / "checkpoint-2", workshop.out / "resumed" / "checkpoint-2")
    said = run_to_the_end(workshop.run_file("resumed", **KEYS, deepspeed=str(config)), ranks=2)

    ddp, whole, resumed = (workshop.out / name for name in ("ddp", "whole", "resumed"))
    assert len(list(whole.glob("checkpoint-8/global_step8/zero_pp_rank_*_optim_states.pt"))) == 2
    assert "resuming from" in said
    for step in (2, 5):
        rows = [np.load(folder / "decisions" / f"step-{step:08d}.npy", allow_pickle=False) for folder in (ddp, whole)]
        np.testing.assert_array_equal(*rows)
    scores = [
        [decision["scores"]["quantiles"] for decision in decisions_without_times(folder)[-2:]]
        for folder in (ddp, whole)
    ]
    np.testing.assert_allclose(*scores, atol=1e-5, rtol=0)
    assert weights_digest(resumed) == weights_digest(whole)
    assert logged_without_times(resumed) == logged_without_times(whole)
    assert decisions_without_times(resumed)[-2:] == decisions_without_times(whole)[-2:]
