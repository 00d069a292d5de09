"""Pools in which words tell, tiny models, and runs that the tests share; importable by a spawned process."""

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

from dataflex import Selection
from dataflex.testing import make_context
from dataflex_selectors_influence.params import InfluenceParams
from dataflex_selectors_influence.selector import InfluenceSelector

VOCABULARY, IGNORED = 40, -100
Row = dict[str, list[int]]


def rows_of(count: int, seed: int, *, low: int = 1, high: int = VOCABULARY) -> list[Row]:
    """Ragged rows of tokens from ``low`` to ``high - 1``; the first two are no targets."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        ids = rng.integers(low, high, rng.integers(6, 14)).tolist()
        made.append({"input_ids": ids, "labels": [IGNORED] * 2 + ids[2:]})
    return made


def pool_and_targets() -> tuple[list[Row], dict[str, list[Row]]]:
    """A pool of 24 rows in the first target's words and 48 in others; two targets."""
    pool = rows_of(24, 1, high=12) + rows_of(48, 2, low=12)
    return pool, {"one": rows_of(6, 3, high=12), "two": rows_of(5, 4, low=30)}


def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right."""
    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": IGNORED}
    batch = {
        name: torch.tensor([list(row[name]) + [fill[name]] * (width - len(row[name])) for row in rows]) for name in fill
    }
    return {**batch, "attention_mask": (batch["input_ids"] != 0).long()}


def model(*, lora: bool = True, dtype: torch.dtype = torch.float32, frozen: bool = False) -> Any:
    """The same model each time; ``frozen``: only its embedding and the head tied to it are trained."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3, tie_word_embeddings=frozen,
    )  # fmt: skip
    made: Any = Qwen2ForCausalLM(config)
    if frozen:
        for name, value in made.named_parameters():
            value.requires_grad_("embed" in name)
    elif lora:
        made = get_peft_model(made, LoraConfig(r=4, target_modules="all-linear"))
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.1)
    return made.to(dtype)


def selector(pool: Any = None, targets: Any = None, params: Mapping[str, Any] | None = None, **facts: Any) -> Any:
    """The selector by hand, with a context that can make passes."""
    given = pool_and_targets()
    context = make_context(
        given[0] if pool is None else pool, collate, eval_datasets=given[1] if targets is None else targets, **facts
    )
    return InfluenceSelector(InfluenceParams(**{"targets": ("one",), **(params or {})}), context)


def told(chooser: InfluenceSelector, rows: Sequence[int], labels: Any, step: int = 1) -> None:
    """Tell it of the labels of some rows, as training does."""
    values = np.asarray(labels, np.float64)
    chooser.on_rows(step, np.asarray(rows), None, values[:, None] if values.ndim == 1 else values)


def select(chooser: InfluenceSelector, step: int = 5, num_samples: int = 12, of: Any = None) -> Selection:
    """Ask at a boundary."""
    return chooser.select(of, step, num_samples)


def trainer(folder: Path, *, name: str = "influence", of: Any = None, **options: Any) -> Any:
    """A Trainer: 10 steps of warm-up and two stages of 3 steps, 4 rows a step; with ``domains``, beside a mixer."""
    from transformers import Trainer, TrainingArguments

    from dataflex.trainers import dynamic_trainer

    params = {"targets": ["one"], **options.pop("params", {})} if name == "influence" else {}
    steps = options.pop("steps", {"warmup_step": 10, "update_step": 3, "update_times": 2})
    fixed: dict[str, Any] = {
        "learning_rate": 0.01, "lr_scheduler_type": "constant", "per_device_train_batch_size": 4, "use_cpu": True,
        "report_to": "none", "save_strategy": "no", "logging_steps": 1, "seed": 5, "disable_tqdm": True,
        "remove_unused_columns": False, "max_grad_norm": 0.0,
    }  # fmt: skip
    config = {"train_type": "dynamic_select", "component_name": name, "component_params": params, **steps}
    domains = options.pop("domains", None)
    if domains is not None:
        parts = {"mixer": "static", "selector": {"name": name, "params": params}}
        config = {"train_type": "dynamic", "components": parts, "init_mixture_proportions": [0.5, 0.5], **steps}
    pool, targets = pool_and_targets()
    cls = dynamic_trainer(Trainer, config, domains=domains)
    args = TrainingArguments(str(folder), **{**fixed, **options})
    return cls(
        model=model() if of is None else of,
        args=args,
        train_dataset=pool,
        eval_dataset=targets,
        data_collator=collate,
    )


def weights(made: Any) -> torch.Tensor:
    """All parameters in one vector."""
    values = made.accelerator.unwrap_model(made.model).parameters()
    return torch.cat([value.detach().double().flatten() for value in values])


def plans(folder: Path) -> dict[str, list[int]]:
    """Rows of each stage."""
    files = sorted(folder.glob("decisions/*.npy"))
    return {path.name: np.load(path, allow_pickle=False).tolist() for path in files}


def train_rank(rank: int, world_size: int, folder: str) -> None:
    """What is chosen on one of several ranks, in a whole run and in one that goes on from a checkpoint."""
    os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    # transformers asks torch to load the optimizer's state to "cpu:0", which it does not know
    torch.serialization.register_package(5, lambda _: None, lambda data, place: data if place == "cpu:0" else None)

    def of(home: Path, **saves: Any) -> Any:
        return trainer(
            home,
            of=model(lora=False, dtype=torch.float64),
            params={"refresh": 4},
            per_device_train_batch_size=1,
            gradient_accumulation_steps=2,
            **saves,
        )

    with joined(rank, world_size, folder):
        made, shared = of(Path(folder, f"run-{rank}")), Path(folder, "again")
        made.train()
        of(shared, save_strategy="steps", save_steps=11).train()
        again = of(shared)
        again.train(resume_from_checkpoint=str(shared / "checkpoint-11"))
        kept: dict[str, Any] = {"equal": bool(torch.equal(weights(made), weights(again)))}
        for name, each, home in (("", made, Path(folder, "run-0")), ("again ", again, shared)):
            labels = each.component._labels
            kept |= {f"{name}rows": labels.rows.tolist(), f"{name}labels": labels.values.tolist()}
            kept[f"{name}plans"] = plans(home)
        Path(folder, f"{rank}.json").write_text(json.dumps(kept))
