"""A model and a pool, a third of which is of the eval set's tokens, for tests of selectors by embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

VOCABULARY = 60
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
