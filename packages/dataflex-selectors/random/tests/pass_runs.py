"""Short runs that read the rows they draw several times; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.record.plans import result_name
from dataflex.trainers import dynamic_trainer

STEPS = {"warmup_step": 2, "update_step": 5, "update_times": 2}
"""12 steps of four rows: a stage of 20, of a pool of 12."""


class Line(nn.Module):
    """One number from two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layer(input_ids) - labels).pow(2).mean()}


POOL = [{"input_ids": torch.tensor([row / 10, 1.0]), "labels": torch.tensor([1.0])} for row in range(12)]


def trainer(folder: Path, passes: int, **arguments: Any) -> Any:
    """A Trainer that draws at random."""
    params = {"component_params": {"passes": passes}}
    cls = dynamic_trainer(Trainer, {"train_type": "dynamic_select", "component_name": "random", **params, **STEPS})
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.1, "per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "seed": 5, "disable_tqdm": True,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    return cls(model=Line(), args=args, train_dataset=POOL)


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def trained(folder: Path, passes: int, stop: int = 0, **arguments: Any) -> list[float]:
    """The weights after a run; one that is stopped after a step goes on in a new Trainer."""
    saves = {"save_strategy": "steps", "save_steps": stop} if stop else {}
    made = trainer(folder, passes, **saves, **arguments)
    if stop:
        made.add_callback(StopAt(stop))
        made.train()
        made = trainer(folder, passes, **saves, **arguments)
    made.train(resume_from_checkpoint=bool(stop) or None)
    return [float(value) for parameter in made.model.parameters() for value in parameter.detach().flatten()]


def plans(folder: Path) -> list[list[int]]:
    """The rows of each stage past the warm-up."""
    return [np.load(folder / "out" / result_name(step)).tolist() for step in (2, 7)]


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What this rank comes to."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        whole = trained(Path(folder, "ranks"), 3, per_device_train_batch_size=2)
        again = trained(Path(folder, "resumed"), 3, stop=4, per_device_train_batch_size=2)
        Path(folder, f"told-{rank}.json").write_text(json.dumps([whole, again]))
