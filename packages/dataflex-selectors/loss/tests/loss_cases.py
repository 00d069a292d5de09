"""Models, pools and collators that the tests of the loss selector share; importable by a spawned process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from dataflex.testing import make_context
from dataflex_selectors_loss.params import LossParams
from dataflex_selectors_loss.selector import LossSelector

VOCABULARY = 200
LENGTHS = (5, 23, 2, 17, 40, 9, 9, 31, 3, 12, 64, 7)
Row = dict[str, list[int]]


def tiny_qwen(*, lora: bool = False) -> nn.Module:
    """A random Qwen2 with attention dropout; with LoRA also dropout modules and adapters that do something."""
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
            max_position_embeddings=128,
            attention_dropout=0.3,
            initializer_range=0.2,
        )
        model: nn.Module = Qwen2ForCausalLM(config)
        if lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.5))
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.2)
    return model.train()


def ragged_pool(lengths: Sequence[int] = LENGTHS) -> list[Row]:
    """Rows of random tokens; the first third of each is the prompt."""
    rng = np.random.default_rng(5)
    rows = []
    for length in lengths:
        tokens = rng.integers(1, VOCABULARY, length).tolist()
        prompt = max(1, length // 3)
        rows.append({"input_ids": tokens, "attention_mask": [1] * length, "labels": [-100] * prompt + tokens[prompt:]})
    return rows


class Pad:
    """Pads with token 0 on either side, to a multiple of 8, as LlamaFactory's collator does."""

    pad_to_multiple_of = 8

    def __init__(self, side: str = "right", label: int = -100) -> None:
        self.side, self.label = side, label

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = -(-max(len(feature["input_ids"]) for feature in features) // 8) * 8
        fill = {"input_ids": 0, "attention_mask": 0, "labels": self.label}
        batch: dict[str, list[list[int]]] = {name: [] for name in fill}
        for feature in features:
            for name, value in fill.items():
                tokens = feature.pop(name)
                missing = [value] * (width - len(tokens))
                batch[name].append([*tokens, *missing] if self.side == "right" else [*missing, *tokens])
        return {name: torch.tensor(rows) for name, rows in batch.items()}


class Bigram(nn.Module):
    """A model whose next-token probabilities are a table: losses can be worked out on paper."""

    def __init__(self, probabilities: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> CausalLMOutput:
        return CausalLMOutput(logits=self.table[input_ids])


def two_token_pool(losses: Sequence[int]) -> tuple[list[Row], Bigram]:
    """Rows whose loss is the given number of nats exactly: token ``loss`` is followed by token 0 with e^-loss."""
    highest = max(losses)
    table = [[np.exp(-loss)] + [0.0] * highest for loss in range(highest + 1)]
    for loss, row in enumerate(table):
        row[1] = 1 - row[0]
        assert loss or row[1] == 0
    rows = [{"input_ids": [loss, 0], "attention_mask": [1, 1], "labels": [-100, 0]} for loss in losses]
    return rows, Bigram(table)


def reference_losses(model: nn.Module, rows: Sequence[Row]) -> list[float]:
    """What Hugging Face gives for each row alone, unpadded, in fp32."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        losses = [model(**{name: torch.tensor([row[name]]) for name in row}).loss.item() for row in rows]
    for module, training in flags.items():
        module.training = training
    return losses


def selector(rows: Any, *, collator: Any = None, accelerator: Any = None, seed: int = 1, **params: Any) -> LossSelector:
    context = make_context(rows, collator or Pad(), accelerator=accelerator, seed=seed)
    return LossSelector(LossParams(**params), context)


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Run a selection on one of several ranks and save it; then one in which rank 1 fails."""
    with joined(rank, world_size, folder) as accelerator:
        chosen = selector(ragged_pool(), accelerator=accelerator, token_budget=64).select(tiny_qwen(), 6, 5)
        assert chosen.scores is not None
        np.save(Path(folder, f"rows{rank}.npy"), np.asarray(chosen.rows), allow_pickle=False)
        np.save(Path(folder, f"scores{rank}.npy"), chosen.scores, allow_pickle=False)
        broken = tiny_qwen()
        if rank == 1:
            broken.forward = out_of_memory  # type: ignore[method-assign]
        try:
            selector(ragged_pool(), accelerator=accelerator, token_budget=64).select(broken, 6, 5)
        except Exception as error:
            Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.cuda.OutOfMemoryError("tried to allocate 1 GiB")
