"""Short runs of the selector ``loss`` behind a screen of the test's own; importable by a spawned process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from gloo import joined
from loss_cases import Pad, ragged_pool, tiny_qwen
from torch import nn

from dataflex.trainers import dynamic_trainer

ROWS = 120
STEPS, WARMUP, UPDATE, BATCH = 11, 2, 3, 2
BOUNDARIES = (2, 5, 8)
SCREENS = '''
import numpy as np
from dataflex import Need, Selection, Selector, register_selector

class Scoring(Selector):
    """Remembers the steps at which it was asked."""
    def __init__(self, params, context):
        super().__init__(params, context)
        self.asked, self.begun, self.heard = [], 0, 0
    def begin(self, model):
        self.begun += 1
    def on_rows(self, step, rows, losses=None):
        self.heard += len(rows)
    def select(self, model, step_id, num_samples, **kwargs):
        assert num_samples == 1 and self.context.scores_only
        self.asked.append(step_id)
        return Selection(range(num_samples), {}, self.scores(model, step_id))
    def state_dict(self):
        return {"asked": self.asked, "begun": self.begun, "heard": self.heard}
    def load_state_dict(self, state):
        self.asked, self.begun, self.heard = list(state["asked"]), state["begun"], state["heard"]

@register_selector("longest", gives_scores=True)
class Longest(Scoring):
    """The rows of most tokens; every seventh has no score."""
    def scores(self, model, step):
        found = np.array([len(row["input_ids"]) for row in self.dataset], np.float64)
        found[::7] = np.nan
        return found

@register_selector("same", gives_scores=True)
class Same(Scoring):
    """The very losses."""
    def scores(self, model, step):
        return self.context.losses(model, np.arange(len(self.dataset)), key="same").means

@register_selector("noise", gives_scores=True)
class Noise(Scoring):
    """Nothing at all."""
    def scores(self, model, step):
        return self.context.rng(step).normal(size=len(self.dataset))

@register_selector("rising", gives_scores=True)
class Rising(Scoring):
    """Other scores each time it is asked."""
    def scores(self, model, step):
        return np.roll(np.arange(len(self.dataset), dtype=np.float64), 17 * len(self.asked))

@register_selector("silent", gives_scores=True)
class Silent(Scoring):
    def scores(self, model, step):
        return None

@register_selector("failing", gives_scores=True)
class Failing(Scoring):
    def scores(self, model, step):
        raise ZeroDivisionError("on purpose")

@register_selector("modest")
class Modest(Scoring):
    """Does not say that it gives scores."""

@register_selector("aiming", gives_scores=True, needs={Need.EVAL_SET})
class Aiming(Longest):
    """Needs an eval set."""
'''


def pool() -> list[dict[str, list[int]]]:
    """Rows of 3 to 60 tokens."""
    return ragged_pool(np.random.default_rng(11).integers(3, 60, ROWS).tolist())


def trainer(folder: Path, screen: dict[str, Any] | None, *, params: dict[str, Any] | None = None, **more: Any) -> Any:
    """A Trainer that selects by loss behind a screen."""
    from transformers import Trainer, TrainingArguments

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "screens.py").write_text(SCREENS)
    config = {
        "train_type": "dynamic_select",
        "component_name": "loss",
        "component_params": {"mode": "top", **({} if screen is None else {"screen": screen}), **(params or {})},
        "warmup_step": WARMUP,
        "update_step": UPDATE,
        "update_times": len(BOUNDARIES),
        **more.pop("config", {}),
    }
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.5, "lr_scheduler_type": "constant", "per_device_train_batch_size": BATCH,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 3, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **more})
    cls = dynamic_trainer(Trainer, config, plugins=[folder / "screens.py"])
    rows = Dataset.from_list(pool())
    return cls(model=without_dropout(tiny_qwen()), args=args, train_dataset=rows, data_collator=Pad())


def without_dropout(model: nn.Module) -> nn.Module:
    """The model as one rank and two train it alike."""
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    return model


def decisions(folder: Path) -> list[dict[str, Any]]:
    """The metrics that were recorded at each boundary."""
    from dataflex.decisions import DecisionLog

    return [dict(each.metrics) for each in DecisionLog(folder / "out")]


def plan(folder: Path, step: int) -> list[int]:
    """The rows of the stage that begins at a step."""
    rows: list[int] = np.load(folder / "out" / "decisions" / f"step-{step:08d}.npy", allow_pickle=False).tolist()
    return rows


def parameters(model: nn.Module) -> torch.Tensor:
    """All parameters in one vector."""
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def train_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Train behind a screen on one of two ranks, whole and from a checkpoint on; rank 0 leaves the parameters."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    screen = {"name": "same", "survivors": 30, "every": 2, "agreement": 20}
    one = {"per_device_train_batch_size": 1}
    with joined(rank, world_size, folder):
        made = trainer(Path(folder), screen, **one)
        made.train()
        again = Path(folder, "again")
        trainer(again, screen, **one, save_strategy="steps", save_steps=4).train()
        resumed = trainer(again, screen, **one)
        resumed.train(resume_from_checkpoint=str(again / "out" / "checkpoint-4"))
        if rank == 0:
            for name, each in (("two", made), ("resumed", resumed)):
                np.save(Path(folder, f"{name}.npy"), parameters(each.accelerator.unwrap_model(each.model)).numpy())
