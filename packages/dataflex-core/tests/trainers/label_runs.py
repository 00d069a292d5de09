"""Short runs of selectors that ask for labels, with adapters or full; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gloo import joined
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from weight_runs import collate, model, pool

from dataflex.trainers import dynamic_trainer

SELECTORS = '''
import json
import numpy as np
import torch
from dataflex import Selector, register_selector
from dataflex.components.labels import LabelDirections
from dataflex.gradients.coverage import Scope, cover

def directions_of(model, number):
    generator = torch.Generator().manual_seed(number)
    parameters = cover(model, Scope.LINEAR).parameters
    return {name: torch.randn(2, value.numel(), generator=generator) for name, value in parameters.items()}

class Labelled(Selector):
    """No labels in the first step; another direction from step 4 on; stepping it moves every global generator."""
    exact, made, current = False, 0, None
    def __init__(self, params, context):
        super().__init__(params, context)
        self.seen, self.asked = [], []
    def directions(self, model, step_id):
        self.asked.append(step_id)
        number = 0 if step_id < 1 else 1 if step_id < 4 else 2
        if number != self.made or self.current is None:
            torch.rand(3); np.random.rand(3)
            self.made = number
            self.current = LabelDirections(directions_of(model, number), self.exact) if number else None
        return self.current
    def on_rows(self, step, rows, losses=None, labels=None):
        self.seen.append([step, rows.tolist(), None if labels is None else labels.tolist()])
    def select(self, model, step_id, num_samples):
        return (np.arange(num_samples) * 5 + 3) % len(self.dataset)
    def state_dict(self):
        return {"seen": json.dumps(self.seen)}  # with NaN
    def load_state_dict(self, state):
        self.seen = json.loads(state["seen"])

@register_selector("labelled")
class Summed(Labelled):
    pass

@register_selector("exactly_labelled")
class Exactly(Labelled):
    exact = True

@register_selector("wrongly_labelled")
class Wrongly(Labelled):
    def directions(self, model, step_id):
        return {}

@register_selector("plain")
class Plain(Selector):
    def select(self, model, step_id, num_samples):
        return (np.arange(num_samples) * 5 + 3) % len(self.dataset)
'''
STEPS: Mapping[str, Any] = {"warmup_step": 2, "update_step": 2, "update_times": 2}  # 6 steps


def adapted(dtype: torch.dtype = torch.float32) -> Any:
    """LoRA with dropout on the tiny model, and adapters that do something."""
    from peft import LoraConfig, get_peft_model

    made: Any = get_peft_model(model(dtype), LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return made.to(dtype)


def trainer(name: str, folder: Path, *, lora: bool = False, double: bool = False, **arguments: Any) -> Any:
    """A Trainer with one of :data:`SELECTORS`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plug.py").write_text(SELECTORS)
    steps = arguments.pop("steps", STEPS)
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    config = {"train_type": "dynamic_select", "component_name": name, **steps}
    cls = dynamic_trainer(Trainer, config, plugins=[folder / "plug.py"])
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    dtype = torch.float64 if double else torch.float32
    made = adapted(dtype) if lora else model(dtype)
    return cls(model=made, args=args, train_dataset=pool(masked=(8,)), data_collator=collate)


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def weights(made: Any) -> torch.Tensor:
    """All parameters in one vector."""
    values = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([value.detach().double().flatten() for value in values])


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What a selector is told on this rank, and whether labels change the weights."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        accumulates = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}
        told: dict[str, Any] = {}
        for case, options in {"lora": {"lora": True}, "full": {"double": True}}.items():
            ends = []
            for name in ("labelled", "plain"):
                made = trainer(name, Path(folder, f"{case}-{name}-{rank}"), **accumulates, **options)
                made.train()
                ends.append(weights(made))
                if name == "labelled":
                    told[case] = made.component.seen
            told[f"{case} equal"] = torch.equal(*ends)
            told[f"{case} off"] = float((ends[0] - ends[1]).abs().max() / ends[1].abs().max())
        Path(folder, f"{rank}.json").write_text(json.dumps(told))
