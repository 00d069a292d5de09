"""Pools, a model with known losses, and short runs that the tests share; importable by a spawned process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_outputs import CausalLMOutput

from dataflex.record.plans import result_name
from dataflex.testing import make_context
from dataflex.trainers import dynamic_trainer
from dataflex_selectors_delta_loss.params import DeltaLossParams
from dataflex_selectors_delta_loss.selector import DeltaLossSelector

STEPS = {"warmup_step": 1, "update_step": 2, "update_times": 5}
"""11 steps of four rows, of a pool of 24."""

BOUNDARIES = (1, 3, 5, 7, 9)


class Known(nn.Module):
    """A model that gives a row of the token k the loss ``losses[k]``, in nats."""

    def __init__(self, losses: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.Parameter(torch.tensor(losses, dtype=torch.float64))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> CausalLMOutput:
        log_p = -self.losses[input_ids]  # of token 0; the rest is token 1's
        logits = torch.full((*input_ids.shape, len(self.losses) + 2), -torch.inf, dtype=torch.float64)
        logits[..., 0], logits[..., 1] = log_p, torch.log1p(-log_p.exp().clamp(max=1 - 1e-12))
        return CausalLMOutput(logits=logits)


def rows_of(count: int) -> list[dict[str, list[int]]]:
    """Row k is token k, then token 0, which is its only target."""
    return [{"input_ids": [row, 0], "attention_mask": [1, 1], "labels": [-100, 0]} for row in range(count)]


def pad(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([list(row[name]) + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


def selector(count: int = 10, **more: Any) -> DeltaLossSelector:
    """One of so many rows, by hand."""
    facts = {name: more.pop(name) for name in ("seed", "scores_only", "cache_dir", "dataset") if name in more}
    return DeltaLossSelector(DeltaLossParams(**more), make_context(facts.pop("dataset", rows_of(count)), pad, **facts))


def ask(made: DeltaLossSelector, losses: Sequence[float], boundary: int, count: int, *, times: int = 5) -> Any:
    """The answer at a boundary, counted from 1, with these losses now."""
    return made.select(Known(losses), 10 * boundary, count, current_update_times=boundary, update_times=times)


def pool(rows: int = 24) -> list[dict[str, list[int]]]:
    """Ragged rows; a third of them repeat one token, and are soon learnt; no two are alike."""
    draw = torch.Generator().manual_seed(7)
    made = []
    for row in range(rows):
        length = int(torch.randint(5, 10, (), generator=draw))
        ids = torch.randint(1, 40, (length,), generator=draw).tolist() if row % 3 else [row + 1] * length
        made.append({"input_ids": ids, "attention_mask": [1] * length, "labels": list(ids)})
    return made


def model() -> Any:
    """The same tiny Qwen2 each time."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).double()


def trainer(folder: Path, *, params: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """A Trainer that selects."""
    steps = arguments.pop("steps", STEPS)
    given = {"window": 0.3, **(params or {})}
    config = {"train_type": "dynamic_select", "component_name": "delta_loss", "component_params": given, **steps}
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    args = TrainingArguments(str(folder), **{**fixed, **arguments})
    return dynamic_trainer(Trainer, config)(model=model(), args=args, train_dataset=pool(), data_collator=pad)


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            control.should_training_stop = True


def weights(made: Any) -> torch.Tensor:
    """All parameters in one vector."""
    values = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([value.detach().double().flatten() for value in values])


def plans(folder: Path) -> list[list[int]]:
    """The rows of each stage."""
    return [np.load(folder / result_name(step)).tolist() for step in BOUNDARIES]


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What is chosen on one of several ranks."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        made = trainer(Path(folder, "ranks"), per_device_train_batch_size=2)
        made.train()
        state = made.component.state_dict()
        told = {"baseline": state["baseline"].tolist(), "seen": state["seen"].tolist()}
        Path(folder, f"told-{rank}.json").write_text(json.dumps(told))
