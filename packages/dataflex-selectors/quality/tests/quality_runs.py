"""Short runs of a Trainer with a selector by quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_pools import pad, tiny_qwen
from quality_cases import DEFAULTS, rows_with_prompts
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.record.plans import result_name
from dataflex.trainers import dynamic_trainer

STEPS = {"warmup_step": 1, "update_step": 2, "update_times": 2}
"""5 steps of 2 rows."""


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad, and leave out the numbers beside the tokens."""
    return pad([dict(row) for row in rows])


def trainer(folder: Path, name: str, **options: Any) -> Any:
    """A Trainer on one rank."""
    params = {**DEFAULTS.get(name, {}), **options.pop("params", {})}
    params = {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()}
    config = {"train_type": "dynamic_select", "component_name": name, "component_params": params, **STEPS}
    fixed: dict[str, Any] = {
        "learning_rate": 0.01, "per_device_train_batch_size": 2, "use_cpu": True, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "seed": 5, "disable_tqdm": True, "remove_unused_columns": False,
    }  # fmt: skip
    args = TrainingArguments(str(folder), **{**fixed, **options})
    cls = dynamic_trainer(Trainer, config)
    return cls(model=tiny_qwen(), args=args, train_dataset=rows_with_prompts(), data_collator=collate)


def trained(folder: Path, name: str, *, stop: int = 0, **options: Any) -> torch.Tensor:
    """The weights after a run; one that is stopped after a step goes on in a new Trainer."""
    saves = {"save_strategy": "steps", "save_steps": stop} if stop else {}
    made = trainer(folder, name, **saves, **options)
    if stop:
        made.add_callback(StopAt(stop))
        made.train()
        made = trainer(folder, name, **saves, **options)
    made.train(resume_from_checkpoint=bool(stop) or None)
    return torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])


def plans(folder: Path) -> list[list[int]]:
    """The rows of each stage past the warm-up."""
    return [np.load(folder / result_name(step)).tolist() for step in (1, 3)]
