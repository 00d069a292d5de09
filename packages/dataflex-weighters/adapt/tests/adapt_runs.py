"""Short runs with ``adapt`` on a tiny model; also what each of two ranks runs."""

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
STEPS, WARMUP, REFRESH = 12, 1, 4


def rows(count: int, seed: int) -> Rows:
    """Ragged rows whose first two tokens are no targets."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        length = int(torch.randint(4, 12, (), generator=draw))
        ids = torch.randint(1, 40, (length,), generator=draw).tolist()
        made.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]]})
    return made


POOL, EVAL = rows(64, 7), {"first": rows(5, 1), "second": rows(3, 2)}


def collate(batch: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right."""
    longest = max(len(row["input_ids"]) for row in batch)
    fill = {"input_ids": 0, "labels": -100}
    made = {
        name: torch.tensor([[*row[name], *[value] * (longest - len(row[name]))] for row in batch])
        for name, value in fill.items()
    }
    return {**made, "attention_mask": (made["input_ids"] > 0).long()}


def model() -> Qwen2ForCausalLM:
    """A tiny Qwen2."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def trainer(folder: Path, params: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """A Trainer that weighs; from the 8th weighted step on of 8 samples, the weights act."""
    config = {
        "train_type": "dynamic_weight",
        "component_name": "adapt",
        "component_params": {"refresh_steps": REFRESH, **(params or {})},
        "warmup_step": WARMUP,
    }
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 8,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0, "max_steps": STEPS,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    cls = dynamic_trainer(Trainer, config)
    return cls(model=model(), args=args, train_dataset=POOL, eval_dataset=EVAL, data_collator=collate)


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
        made = trained(Path(folder, f"rank-{rank}"), {"centre": "window"}, per_device_train_batch_size=4)
        if rank == 0:
            found = {"parameters": parameters(made).tolist(), "direction": made.component.direction.tolist()}
            Path(folder, "found.json").write_text(json.dumps(found))
