"""Short runs with ``rho`` on a tiny model; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gloo import joined
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.trainers import dynamic_trainer

Rows = list[dict[str, list[int]]]
STEPS, WARMUP = 12, 1


def rows(count: int, seed: int) -> Rows:
    """Ragged rows whose first two tokens are no targets."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        length = int(torch.randint(4, 12, (), generator=draw))
        ids = torch.randint(1, 40, (length,), generator=draw).tolist()
        made.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]]})
    return made


POOL = rows(64, 7)


def collate(batch: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right."""
    longest = max(len(row["input_ids"]) for row in batch)
    fill = {"input_ids": 0, "labels": -100}
    made = {
        name: torch.tensor([[*row[name], *[value] * (longest - len(row[name]))] for row in batch])
        for name, value in fill.items()
    }
    return {**made, "attention_mask": (made["input_ids"] > 0).long()}


def model(seed: int = 0) -> Qwen2ForCausalLM:
    """A tiny Qwen2."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def reference(folder: Path, seed: int = 3) -> str:
    """A reference model in files."""
    model(seed).save_pretrained(folder)
    return str(folder)


def trainer(folder: Path, params: Mapping[str, Any], *, kind: str = "dynamic_weight", **arguments: Any) -> Any:
    """A Trainer that weighs (the weights act from the ninth weighted step of 8 samples on), or selects."""
    steps = {"update_step": 4, "update_times": 2} if kind == "dynamic_select" else {}
    config = {
        "train_type": kind, "component_name": "rho", "component_params": dict(params), "warmup_step": WARMUP, **steps
    }  # fmt: skip
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 8,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0, "max_steps": STEPS,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    return dynamic_trainer(Trainer, config)(model=model(), args=args, train_dataset=POOL, data_collator=collate)


def trained(folder: Path, *args: Any, **kwargs: Any) -> Any:
    """One that has trained."""
    made = trainer(folder, *args, **kwargs)
    made.train()
    return made


def parameters(made: Any) -> torch.Tensor:
    """All parameters in one vector."""
    weights = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([weight.detach().flatten() for weight in weights])


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def rank_trains(rank: int, world_size: int, folder: str) -> None:
    """Train on one of two ranks; rank 0 leaves parameters and state."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        params = {"reference": str(Path(folder, "reference")), "reference_losses": "live"}
        made = trained(Path(folder, f"rank-{rank}"), params, per_device_train_batch_size=4)
        if rank == 0:
            Path(folder, "found.json").write_text(json.dumps(parameters(made).tolist()))
