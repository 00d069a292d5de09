"""A short run of ``less`` behind a screen, with fewer validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from less_cases import Pad, pool_and_goals, tiny_qwen, with_lora
from torch import nn

from dataflex.decisions import DecisionLog
from dataflex.trainers import dynamic_trainer

BOUNDARIES = (2, 4)


def trainer(folder: Path, params: dict[str, Any], **more: Any) -> Any:
    """A Trainer that selects by LESS: two steps of warm-up, two boundaries of two steps."""
    from transformers import Trainer, TrainingArguments

    folder.mkdir(parents=True, exist_ok=True)
    rows, goals = pool_and_goals(size=40)
    config = {
        "train_type": "dynamic_select",
        "component_name": "less",
        "component_params": {"shard_seconds": 0, **params},
        "warmup_step": 2,
        "update_step": 2,
        "update_times": len(BOUNDARIES),
    }
    fixed: dict[str, Any] = {
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 2, "use_cpu": True,
        "report_to": "none", "save_strategy": "no", "logging_steps": 3, "seed": 5, "disable_tqdm": True,
        "remove_unused_columns": False,
    }  # fmt: skip
    args = TrainingArguments(str(folder / "out"), **{**fixed, **more})
    evals = {name: Dataset.from_list(each) for name, each in goals.items()}
    model = with_lora(tiny_qwen(attention_dropout=0.0), lora_dropout=0.0)
    cls = dynamic_trainer(Trainer, config)
    return cls(model=model, args=args, train_dataset=Dataset.from_list(rows), eval_dataset=evals, data_collator=Pad())


def decisions(folder: Path) -> list[dict[str, Any]]:
    """The metrics recorded at each boundary."""
    return [dict(each.metrics) for each in DecisionLog(folder / "out")]


def plan(folder: Path, step: int) -> list[int]:
    """The rows of the stage that begins at a step."""
    rows: list[int] = np.load(folder / "out" / "decisions" / f"step-{step:08d}.npy", allow_pickle=False).tolist()
    return rows


def trained(model: nn.Module) -> np.ndarray:
    """All trained parameters in one vector."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return np.concatenate([weight.detach().flatten().numpy() for weight in weights])
