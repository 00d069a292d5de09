"""A model and a pool, a third of which is of the eval set's tokens, for tests of selectors by embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dataflex import Candidates

VOCABULARY = 60
DOMAINS = {"a": 24, "b": 36}
Row = dict[str, list[int]]


def tiny_qwen() -> nn.Module:
    """A random Qwen2 of two layers."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.2,
        )
        model: nn.Module = Qwen2ForCausalLM(config)
        return model.train()


def rows_of(count: int, low: int, high: int, seed: int) -> list[Row]:
    """Rows of tokens between two numbers."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        tokens = rng.integers(low, high, rng.integers(6, 30)).tolist()
        rows.append({"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": [-100, *tokens[1:]]})
    return rows


def pool() -> list[Row]:
    """Every third row is of the target's tokens."""
    near, far = rows_of(20, 1, 12, 1), rows_of(40, 12, VOCABULARY, 2)
    return [near[row // 3] if row % 3 == 0 else far[row - row // 3 - 1] for row in range(60)]


def target(count: int = 7) -> list[Row]:
    return rows_of(count, 1, 12, 3)


def pad(features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    width = max(len(feature["input_ids"]) for feature in features)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[name] + [value] * (width - len(row[name])) for row in features])
        for name, value in fill.items()
    }


def of_domains(*counts: int) -> Candidates:
    """So many of the rows of each of :data:`DOMAINS`."""
    ends = np.cumsum([0, *DOMAINS.values()])
    rows = tuple(np.arange(first, end) for first, end in itertools.pairwise(ends))
    return Candidates(tuple(DOMAINS), rows, counts)


def trained_beside_a_mixer(folder: Path, name: str, params: Mapping[str, Any] | None = None) -> Any:
    """A Trainer that has trained on the pool as two domains, half of the rows from each: two boundaries, at 0 and 2."""
    from transformers import Trainer, TrainingArguments

    from dataflex.trainers import dynamic_trainer

    keys = {
        "train_type": "dynamic",
        "components": {"mixer": "static", "selector": {"name": name, "params": dict(params or {})}},
        "init_mixture_proportions": [0.5, 0.5],
        "warmup_step": 0,
        "update_step": 2,
        "update_times": 2,
    }
    args = TrainingArguments(
        str(folder), per_device_train_batch_size=4, use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    made: Any = dynamic_trainer(Trainer, keys, domains=DOMAINS)
    trainer = made(
        model=tiny_qwen(), args=args, train_dataset=pool(), eval_dataset={"eval": target()}, data_collator=pad
    )
    trainer.train()
    return trainer
