"""Short runs with ``prune`` or ``random`` on a tiny model; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.record.plans import result_name
from dataflex.trainers import dynamic_trainer

STEPS = {"warmup_step": 1, "update_step": 4, "update_times": 5}
"""21 steps of four rows: past the warm-up 80 rows, of a pool of 16."""

BOUNDARIES = (1, 5, 9, 13, 17)


def pool(rows: int = 16) -> list[dict[str, list[int]]]:
    """Ragged rows; half of them say the same thing again and again, and are soon learnt."""
    draw = torch.Generator().manual_seed(7)
    made = []
    for row in range(rows):
        length = int(torch.randint(5, 10, (), generator=draw))
        ids = [3] * length if row % 2 else torch.randint(1, 40, (length,), generator=draw).tolist()
        made.append({"input_ids": ids, "labels": list(ids)})
    return made


def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right."""
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100}
    batch = {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }
    return {**batch, "attention_mask": (batch["input_ids"] > 0).long()}


def model() -> Qwen2ForCausalLM:
    """A tiny Qwen2."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def trainer(folder: Path, name: str = "prune", params: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """A Trainer that selects."""
    config = {"train_type": "dynamic_select", "component_name": name, "component_params": dict(params or {}), **STEPS}
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    return dynamic_trainer(Trainer, config)(model=model(), args=args, train_dataset=pool(), data_collator=collate)


def trained(folder: Path, *args: Any, **kwargs: Any) -> Any:
    """One that has trained."""
    made = trainer(folder, *args, **kwargs)
    made.train()
    return made


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def stopped_and_resumed(folder: Path, step: int, **arguments: Any) -> Any:
    """One that was stopped after a step, and a new one that went on."""
    saves = {"save_strategy": "steps", "save_steps": step}
    first = trainer(folder, **saves, **arguments)
    first.add_callback(StopAt(step))
    first.train()
    again = trainer(folder, **saves, **arguments)
    again.train(resume_from_checkpoint=True)
    return again


def parameters(made: Any) -> torch.Tensor:
    """All parameters in one vector."""
    weights = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([weight.detach().flatten() for weight in weights])


def plans(folder: Path) -> list[list[int]]:
    """The rows of each stage."""
    return [np.load(folder / "out" / result_name(step)).tolist() for step in BOUNDARIES]


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What this rank comes to, of a whole run and of one that is stopped and goes on."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        whole = trained(Path(folder, "ranks"), per_device_train_batch_size=2)
        again = stopped_and_resumed(Path(folder, "resumed"), 8, per_device_train_batch_size=2)
        told = {
            "parameters": parameters(whole).tolist(),
            "equal": bool(torch.equal(parameters(whole), parameters(again))),
            "skipped": whole.component.state_dict()["skipped"],
        }
        Path(folder, f"told-{rank}.json").write_text(json.dumps(told))
