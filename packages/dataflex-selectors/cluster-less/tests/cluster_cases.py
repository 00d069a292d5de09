"""Selectors by hand and short runs that the tests share; importable by a spawned process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_pools import pad, pool, target, tiny_qwen
from gloo import joined

from dataflex.record.plans import result_name
from dataflex.testing import make_context
from dataflex_selectors_cluster_less.params import ClusterLessParams
from dataflex_selectors_cluster_less.selector import ClusterLessSelector

STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 3}
"""8 steps of four rows, of a pool of 60."""

BOUNDARIES = (2, 4, 6)


def selector(folder: Path, **more: Any) -> ClusterLessSelector:
    facts = {
        name: more.pop(name) for name in ("accelerator", "seed", "dataset", "stage", "scores_only") if name in more
    }
    eval_datasets = more.pop("eval_datasets", {"eval": target()})
    context = make_context(facts.pop("dataset", pool()), pad, cache_dir=folder, eval_datasets=eval_datasets, **facts)
    given = {"num_clusters": 12, "preconditioner": "sgd", "parameters": "linear", **more}
    return ClusterLessSelector(ClusterLessParams(**given), context)


def trainer(folder: Path, *, params: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """A Trainer that selects, with Adam's moments."""
    from transformers import Trainer, TrainingArguments

    from dataflex.trainers import dynamic_trainer

    given = {"num_clusters": 12, "representatives": 2, "parameters": "linear", **(params or {})}
    config = {"train_type": "dynamic_select", "component_name": "cluster_less", "component_params": given, **STEPS}
    fixed: dict[str, Any] = {
        "learning_rate": 0.01, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4, "use_cpu": True,
        "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5, "disable_tqdm": True,
        "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    args = TrainingArguments(str(folder), **{**fixed, **arguments})
    cls = dynamic_trainer(Trainer, config)
    model = tiny_qwen().double()
    return cls(model=model, args=args, train_dataset=pool(), eval_dataset={"eval": target()}, data_collator=pad)


def plans(folder: Path) -> list[list[int]]:
    """The rows of each stage."""
    return [np.load(folder / result_name(step)).tolist() for step in BOUNDARIES]


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """A run on one of several ranks."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        made = trainer(Path(folder, "ranks"), per_device_train_batch_size=2)
        made.train()
        np.save(Path(folder, f"labels-{rank}.npy"), made.component.state_dict()["labels"])
