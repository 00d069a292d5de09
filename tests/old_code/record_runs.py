"""Trains a small run of each kind with whichever core is imported, stops each once, and writes down what they left.

    python tests/old_code/record_runs.py FILE

in an empty folder. ``FILE`` becomes a JSON object by run: a digest of the final weights, every plan, and the texts of
``decisions.jsonl`` and ``run.json``. The Trainer is transformers' own, so that a run costs a second.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.trainers import dynamic_trainer

STEPS = {"warmup_step": 2, "update_step": 3, "update_times": 2}
MIXING = {"domains": {"web": 12, "code": 12}, "init_mixture_proportions": [0.5, 0.5]}
RUNS: dict[str, dict[str, Any]] = {
    "select": {"train_type": "dynamic_select", "component_name": "loss", **STEPS},
    "less": {"train_type": "dynamic_select", "component_name": "less", **STEPS},
    "mix": {"train_type": "dynamic_mix", "component_name": "loss", **STEPS, **MIXING},
    "weight": {"train_type": "dynamic_weight", "component_name": "loss", "warmup_step": 1, "train_step": 8},
}
STOPPED_AFTER = 6  # the last checkpoint is that of step 4


class Stop(BaseException):
    """What ends a run in its middle, as a kill does."""


class StopOnce(TrainerCallback):
    """Ends a run after a step, without its checkpoint."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STOPPED_AFTER:
            raise Stop


def rows(count: int, seed: int) -> list[dict[str, list[int]]]:
    ids = torch.randint(1, 20, (count, 6), generator=torch.Generator().manual_seed(seed)).tolist()
    return [{"input_ids": row, "attention_mask": [1] * len(row), "labels": row} for row in ids]


def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}


def trainer(name: str) -> Any:
    keys = dict(RUNS[name])
    domains = keys.pop("domains", None)
    cls = dynamic_trainer(Trainer, keys, domains=domains)
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    args = TrainingArguments(
        name,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        save_strategy="steps",
        save_steps=4,
        logging_steps=1,
        seed=3,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    return cls(model=model, args=args, train_dataset=rows(24, 1), eval_dataset=rows(6, 2), data_collator=collate)


def left_by(name: str) -> dict[str, Any]:
    first = trainer(name)
    first.add_callback(StopOnce())
    try:
        first.train()
    except Stop:
        second = trainer(name)
        second.train(resume_from_checkpoint=True)
    else:
        raise RuntimeError("it was to be stopped")
    weights = hashlib.sha256()
    for parameter in second.model.state_dict().values():
        weights.update(parameter.numpy().tobytes())
    plans, decisions = sorted(Path(name).glob("decisions/*.npy")), Path(name) / "decisions.jsonl"
    return {
        "weights": weights.hexdigest(),
        "plans": {path.name: np.load(path).tolist() for path in plans},
        "decisions": decisions.read_text() if decisions.is_file() else "",  # a weighter takes none
        "run": (Path(name) / "dataflex" / "run.json").read_text(),
        "files": sorted(str(path.relative_to(name)) for path in Path(name).rglob("*") if path.is_file()),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({name: left_by(name) for name in RUNS}))
