"""Models, pools and plain reference embeddings for the tests of embeddings; importable by a spawned process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn

from dataflex.scoring.embeddings import EmbeddingSpec, embed
from dataflex.testing import make_context

VOCABULARY = 200
LENGTHS = (5, 23, 2, 17, 40, 9, 9, 31, 3, 12, 64, 7)
Row = dict[str, list[int]]


def tiny_qwen(*, lora: bool = False, at_rest: bool = False, layers: int = 2) -> nn.Module:
    """A random Qwen2 with dropout; with LoRA, whose second factors are zero ``at_rest``."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            attention_dropout=0.3,
            initializer_range=0.2,
        )
        model: nn.Module = Qwen2ForCausalLM(config)
        if lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.5))
            for name, weight in model.named_parameters():
                if "lora_B" in name and not at_rest:
                    nn.init.normal_(weight, std=0.2)
    return model.train()


def ragged_pool(lengths: Sequence[int] = LENGTHS, seed: int = 5) -> list[Row]:
    """Rows of random tokens; the first third of each is the prompt."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        tokens = rng.integers(1, VOCABULARY, length).tolist()
        prompt = max(1, length // 3)
        rows.append({"input_ids": tokens, "attention_mask": [1] * length, "labels": [-100] * prompt + tokens[prompt:]})
    return rows


class Pad:
    """Pads with token 0 on either side, to a multiple of 8, as LlamaFactory's collator does."""

    pad_to_multiple_of = 8

    def __init__(self, side: str = "right") -> None:
        self.side = side

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = -(-max(len(feature["input_ids"]) for feature in features) // 8) * 8
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        batch: dict[str, list[list[int]]] = {name: [] for name in fill}
        for feature in features:
            for name, value in fill.items():
                tokens = feature.pop(name)
                missing = [value] * (width - len(tokens))
                batch[name].append([*tokens, *missing] if self.side == "right" else [*missing, *tokens])
        return {name: torch.tensor(rows) for name, rows in batch.items()}


def by_hand(model: nn.Module, rows: Sequence[Row], *, layer: int = -1, span: Any = slice(None)) -> np.ndarray:
    """Weighted means of each row alone, unpadded, in plain steps; not centred, length 1."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    found = []
    with torch.no_grad():
        for row in rows:
            states = model(input_ids=torch.tensor([row["input_ids"]]), output_hidden_states=True).hidden_states[layer]
            tokens = states[0].numpy().astype(np.float64)[span]
            weights = np.arange(1, len(tokens) + 1)
            found.append((weights[:, None] * tokens).sum(axis=0) / weights.sum())
    for module, training in flags.items():
        module.training = training
    return unit(np.stack(found))


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def embed_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Embed on one of several ranks and save what rank 0 has; then fail on rank 1 alone."""
    with joined(rank, world_size, folder) as accelerator:
        rows = ragged_pool(LENGTHS * 3)
        context = make_context(rows, Pad(), accelerator=accelerator, cache_dir=Path(folder, "cache"))
        found = embed(tiny_qwen(), rows, range(len(rows)), EmbeddingSpec(), context, token_budget=64)
        assert (found.values is None) == (rank != 0)
        again = embed(tiny_qwen(), rows, range(len(rows)), EmbeddingSpec(), context, token_budget=64)
        Path(folder, f"said{rank}.txt").write_text(f"{again.found} {found.fingerprint} {found.mean.tobytes().hex()}")
        if found.values is not None and again.values is not None:
            assert np.array_equal(found.values, again.values)
            np.save(Path(folder, "values.npy"), found.values)
        broken = tiny_qwen()
        if rank == 1:
            broken.forward = out_of_memory  # type: ignore[method-assign]
        try:
            embed(broken, rows, range(8), EmbeddingSpec(layers=(1,)), context, token_budget=64)
        except Exception as error:
            Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.cuda.OutOfMemoryError("tried to allocate 1 GiB")


def killed_after(batches: int, folder: str) -> None:
    """A pass that writes each batch and is killed in the middle; run in a process of its own."""
    import dataflex.scoring.embeddings as service

    service.PART_SECONDS = 1e-9
    rows, model, calls = ragged_pool(), tiny_qwen(), [0]
    run = model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] > batches:
            os.kill(os.getpid(), 9)
        return run(*args, **kwargs)

    model.forward = counted  # type: ignore[method-assign]
    context = make_context(rows, Pad(), cache_dir=Path(folder))
    embed(model, rows, range(len(rows)), EmbeddingSpec(), context, token_budget=64)
