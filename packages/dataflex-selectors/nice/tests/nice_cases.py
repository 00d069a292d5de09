"""A toy policy, selectors by hand and short runs that the tests share; importable by a spawned process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from embedded_pools import pad, pool, target, tiny_qwen
from gloo import joined
from torch import nn

from dataflex.record.plans import result_name
from dataflex.testing import make_context
from dataflex_selectors_nice.params import NiceParams
from dataflex_selectors_nice.selector import NiceSelector

OVERLAP = "dataflex_selectors_nice.rewards:overlap"
STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 2}
"""6 steps of four rows, of a pool of 60."""

BOUNDARIES = (2, 4)


class ToyPolicy(nn.Module):
    """Three answers of one token, whose probabilities are the softmax of three numbers, whatever the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        return SimpleNamespace(logits=self.head(torch.ones(*input_ids.shape, 1)))


def numbers(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """The share of the answer's numbers, which stand for tokens, that are below 30."""
    return [float(np.mean([int(token) < 30 for token in answer.split()])) for answer in answers]


def scaled(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    return [4 * reward - 3 for reward in numbers(prompts, answers, references)]


def constant(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    return [0.3] * len(answers)


def too_few(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    return [1.0]


def endless(prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
    return [float("inf")] * len(answers)


def selector(folder: Path, **more: Any) -> NiceSelector:
    facts = {name: more.pop(name) for name in ("accelerator", "seed", "dataset", "tokenizer") if name in more}
    eval_datasets = more.pop("eval_datasets", {"eval": target()})
    context = make_context(facts.pop("dataset", pool()), pad, cache_dir=folder, eval_datasets=eval_datasets, **facts)
    given = {"reward": "nice_cases:numbers", "mc_samples": 4, "max_new_tokens": 6, "preconditioner": "sgd", **more}
    given.setdefault("parameters", "linear")
    return NiceSelector(NiceParams(**given), context)


def trainer(folder: Path, *, params: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """A Trainer that selects, with Adam's moments."""
    from transformers import Trainer, TrainingArguments

    from dataflex.trainers import dynamic_trainer

    given = {"reward": OVERLAP, "mc_samples": 4, "max_new_tokens": 6, "max_validation": 5, "parameters": "linear"}
    config = {
        "train_type": "dynamic_select", "component_name": "nice", "component_params": {**given, **(params or {})},
        **STEPS,
    }  # fmt: skip
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
        rows = made.component.state_dict()["validation/eval"]
        np.save(Path(folder, f"validation-{rank}.npy"), rows)
