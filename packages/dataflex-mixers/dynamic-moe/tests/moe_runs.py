"""Short runs with ``dynamic_moe`` on a tiny mixture of experts; also what each of two ranks runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gloo import joined
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM, Trainer, TrainerCallback, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.trainers import dynamic_trainer

SIZES = {"web": 12, "code": 8, "chat": 4}
FIRST = [0.5, 0.3, 0.2]


def rows() -> list[dict[str, list[int]]]:
    """Ragged rows; the domains have tokens of their own."""
    draw, made = torch.Generator().manual_seed(7), []
    for place, count in enumerate(SIZES.values()):
        for _ in range(count):
            length = int(torch.randint(4, 12, (), generator=draw))
            ids = torch.randint(1 + 12 * place, 13 + 12 * place, (length,), generator=draw).tolist()
            made.append({"input_ids": ids, "labels": list(ids)})
    return made


POOL = rows()


def collate(batch: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right."""
    longest = max(len(row["input_ids"]) for row in batch)
    fill = {"input_ids": 0, "labels": -100}
    made = {
        name: torch.tensor([[*row[name], *[value] * (longest - len(row[name]))] for row in batch])
        for name, value in fill.items()
    }
    return {**made, "attention_mask": (made["input_ids"] > 0).long()}


def model() -> Qwen2MoeForCausalLM:
    """A tiny Qwen2-MoE of two layers, four experts each, two of them for a token."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
        shared_expert_intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, num_experts=4,
        num_experts_per_tok=2, max_position_embeddings=32, initializer_range=0.3, decoder_sparse_step=1,
    )  # fmt: skip
    return Qwen2MoeForCausalLM(config)


def trainer(folder: Path, params: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """A Trainer that mixes: boundaries after steps 1, 3 and 5."""
    config = {
        "train_type": "dynamic_mix", "component_name": "dynamic_moe", "component_params": dict(params or {}),
        "init_mixture_proportions": FIRST, "warmup_step": 1, "update_step": 2, "update_times": 3,
    }  # fmt: skip
    fixed: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5,
        "disable_tqdm": True, "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    given = arguments.pop("model", None)
    args = TrainingArguments(str(folder / "out"), **{**fixed, **arguments})
    cls = dynamic_trainer(Trainer, config, domains=SIZES)
    return cls(model=given or model(), args=args, train_dataset=POOL, data_collator=collate)


def trained(folder: Path, *args: Any, **kwargs: Any) -> Any:
    """One that has trained."""
    made = trainer(folder, *args, **kwargs)
    made.train()
    return made


def proportions(folder: Path) -> list[list[float]]:
    """What was asked for at each boundary."""
    return [list(decision.metrics["proportions"]) for decision in DecisionLog(folder / "out")][:3]


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        if state.global_step == self._step:
            control.should_training_stop = True


def rank_trains(rank: int, world_size: int, folder: str) -> None:
    """Train on one of two ranks; rank 0 leaves the proportions."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    with joined(rank, world_size, folder):
        trained(Path(folder, "ranks"), {"layer": "all"}, per_device_train_batch_size=2, learning_rate=0.0)
        if rank == 0:
            Path(folder, "found.json").write_text(json.dumps(proportions(Path(folder, "ranks"))))
