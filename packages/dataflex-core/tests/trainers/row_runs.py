"""Short runs with selectors that write down what they see of training; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gloo import joined
from transformers import Trainer, TrainerCallback, TrainingArguments
from weight_runs import collate, model, pool

from dataflex.trainers import dynamic_trainer

SELECTORS = '''
import json
import numpy as np
import torch
from dataflex import Selector, register_selector
from dataflex.spec import Need

class Watching(Selector):
    """Keeps what it sees; begin() moves every global generator, which nobody else may notice."""
    def __init__(self, params, context):
        super().__init__(params, context)
        self.begun, self.seen = [], []
    def begin(self, model):
        torch.rand(3); np.random.rand(3)
        first = next(model.parameters())
        flags = [module.training for module in model.modules()]
        self.begun.append([float(first.detach().double().sum()), any(flags), int(self.context.rank)])
    def select(self, model, step_id, num_samples):
        pool = len(self.dataset)
        return (np.arange(num_samples) * 5 + len(self.seen) + 7 * len(self.begun)) % pool
    def state_dict(self):
        return {"begun": self.begun, "seen": self.seen}
    def load_state_dict(self, state):
        self.begun, self.seen = [list(one) for one in state["begun"]], [list(one) for one in state["seen"]]

@register_selector("sees_losses", needs={Need.SAMPLE_LOSSES})
class SeesLosses(Watching):
    def on_rows(self, step, rows, losses=None, labels=None):
        assert labels is None and losses.dtype == np.float64 and rows.dtype == np.int64
        self.seen.append([step, rows.tolist(), losses.tolist()])
        broken = self.context.output_dir.parent / "broken.txt"
        if step == 5 and broken.exists():
            raise ZeroDivisionError("on purpose")

@register_selector("sees_rows")
class SeesRows(Watching):
    def on_rows(self, rows, step, losses):
        assert losses is None
        self.seen.append([step, rows.tolist()])

@register_selector("sees_nothing", needs={Need.SAMPLE_LOSSES})
class SeesNothing(Watching):
    """Begins, and is told of no step."""

@register_selector("plain")
class Plain(Selector):
    def select(self, model, step_id, num_samples):
        return (np.arange(num_samples) * 5) % len(self.dataset)
'''
STEPS: Mapping[str, Any] = {"warmup_step": 2, "update_step": 3, "update_times": 2}  # 8 steps


def trainer(name: str, folder: Path, **arguments: Any) -> Any:
    """A Trainer with one of :data:`SELECTORS`; ``steps`` are other step keys."""
    folder.mkdir(parents=True, exist_ok=True)
    plug, own = folder / "plug.py", folder / f"plug-{os.getpid()}.tmp"
    own.write_text(SELECTORS)
    own.replace(plug)  # ranks share the folder, and one may be reading it
    keys, rows = arguments.pop("steps", STEPS), arguments.pop("rows", None)
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 2,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    config = {"train_type": "dynamic_select", "component_name": name, **keys}
    cls = dynamic_trainer(Trainer, config, plugins=[folder / "plug.py"])
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    data = pool() if rows is None else rows
    return cls(model=model(torch.float64), args=args, train_dataset=data, data_collator=collate)


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def parameters(made: Any) -> torch.Tensor:
    """All parameters in one vector."""
    weights = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([weight.detach().double().flatten() for weight in weights])


def stopped_and_resumed(name: str, folder: Path, step: int, **arguments: Any) -> Any:
    """A run that is stopped after a step and goes on in a new Trainer."""
    saves = {"save_strategy": "steps", "save_steps": step}
    first = trainer(name, folder, **saves, **arguments)
    first.add_callback(StopAt(step))
    first.train()
    again = trainer(name, folder, **saves, **arguments)
    again.train(resume_from_checkpoint=True)
    return again


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What a selector sees on this rank, of a whole run and of one that is stopped and goes on."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        for name in ("sees_losses", "sees_rows"):
            home, shared = Path(folder, f"{name}-{rank}"), Path(folder, f"{name}-shared")
            accumulates = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}
            again = whole = trainer(name, home, **accumulates)
            whole.train()
            if name == "sees_losses":
                again = stopped_and_resumed(name, shared, 4, **accumulates)
            told = {
                "begun": whole.component.begun,
                "seen": whole.component.seen,
                "resumed": again.component.seen,
                "begun_resumed": again.component.begun,
                "equal": bool(torch.equal(parameters(whole), parameters(again))),
            }
            Path(folder, f"{name}-{rank}.json").write_text(json.dumps(told))
