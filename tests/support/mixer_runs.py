"""Runs of one mixer on a tiny model, at the engine's level: three domains of different lengths and difficulty."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.trainers import dynamic_trainer

DOMAINS = {"counting": 40, "noise": 32, "pairs": 24}
VOCABULARY = 32
ASKED = "asked.json"


def pool() -> list[dict[str, list[int]]]:
    """Counting up, random tokens, and two tokens in turn."""
    draw = torch.Generator().manual_seed(1)

    def number(high: int, low: int = 0) -> int:
        return int(torch.randint(low, high, (1,), generator=draw))

    rows = [[(number(VOCABULARY) + step) % VOCABULARY for step in range(number(9, 4))] for _ in range(40)]
    rows += [[number(VOCABULARY) for _ in range(number(7, 3))] for _ in range(32)]
    rows += [[number(4), number(4)] * number(8, 4) for _ in range(24)]
    return [{"input_ids": row, "labels": [-100, *row[1:]]} for row in rows]


def collate(rows: Any) -> dict[str, torch.Tensor]:
    """Padded on the right."""

    def padded(name: str, value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)

    mask = pad_sequence([torch.ones(len(row["input_ids"]), dtype=torch.long) for row in rows], batch_first=True)
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def trainer(
    out: Path,
    mixer: str,
    params: Mapping[str, Any] | None = None,
    *,
    keys: Mapping[str, Any] | None = None,
    batch: int = 8,
    accumulation: int = 1,
    **arguments: Any,
) -> Any:
    """A Trainer with SGD, in fp32 and without dropout: only arithmetic can differ between two of them."""
    given = {
        "train_type": "dynamic_mix",
        "component_name": mixer,
        "init_mixture_proportions": [0.5, 0.25, 0.25],
        "warmup_step": 2,
        "update_step": 4,
        "update_times": 3,
        "component_params": dict(params or {}),
        **(keys or {}),
    }
    given = {name: value for name, value in given.items() if value is not None}
    args: dict[str, Any] = {
        "optim": "sgd", "learning_rate": 0.5, "lr_scheduler_type": "constant", "use_cpu": True, "report_to": "none",
        "logging_steps": 1, "save_strategy": "no", "remove_unused_columns": False, "disable_tqdm": True,
        "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation,
    }  # fmt: skip
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
    }
    config = Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64)
    made: Any = dynamic_trainer(Trainer, given, domains=DOMAINS)
    return made(
        model=Qwen2ForCausalLM(config),
        args=TrainingArguments(str(out), **{**args, **arguments}),
        train_dataset=pool(),
        data_collator=collate,
    )


def trained(out: Path, mixer: str, params: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """A Trainer that has trained."""
    made = trainer(out, mixer, params, **more)
    made.train()
    return made


def beside_a_selector(mixer: str, params: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Keys of a composed run: the mixer sets the shares, the selector ``loss`` the rows within each domain."""
    parts = {"mixer": {"name": mixer, "params": dict(params or {})}, "selector": {"name": "loss"}}
    return {"train_type": "dynamic", "components": parts, "component_name": None, "component_params": None, **more}


def stopped_and_resumed(out: Path, step: int, mixer: str, params: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """A Trainer that has gone on from the checkpoint of a step, the later ones being lost."""
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": step}
    trained(out, mixer, params, **more, **saves)
    for later in out.glob("checkpoint-*"):
        if later.name != f"checkpoint-{step}":
            shutil.rmtree(later)
    again = trainer(out, mixer, params, **more, **saves)
    again.train(resume_from_checkpoint=str(out / f"checkpoint-{step}"))
    return again


def decided(out: Path) -> list[dict[str, Any]]:
    """The numbers of every line of the record: proportions, draws, what the mixer reports."""
    return [dict(record.metrics) for record in DecisionLog(out)]


def of_the_mixer(out: Path) -> list[dict[str, Any]]:
    """As :func:`decided`, of a composed run: the mixer's lines alone."""
    return [line for line in decided(out) if "proportions" in line]


def weights(made: Any) -> torch.Tensor:
    """All parameters in one."""
    return torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])


def on_two_ranks(folder: Path, mixer: str, params: Mapping[str, Any] | None = None, **more: Any) -> None:
    """Train on two gloo ranks, the samples of a step shared between them, into ``folder / "out"``."""
    from gloo import run_on_two_ranks

    (folder / ASKED).write_text(json.dumps({"mixer": mixer, "params": dict(params or {}), **more}))
    run_on_two_ranks(train_rank, folder)


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """One of several ranks of the run that a file asks for."""
    from gloo import joined

    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    asked = json.loads(Path(folder, ASKED).read_text())
    with joined(rank, world_size, folder):
        trained(Path(folder, "out"), batch=8 // world_size, **asked)
