"""LlamaFactory's Trainers of dpo, kto and rm with a tiny model, and pools for them; importable by a spawned process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn

from dataflex.components.context import RunContext
from dataflex.testing import make_context
from dataflex.trainers.objectives import objective_of

VOCABULARY = 120
LENGTHS = (6, 21, 9, 14, 33, 12, 8)
Row = dict[str, Any]


def tiny(*, lora: bool = False, seed: int = 0) -> nn.Module:
    """A random Qwen2 with dropout in train mode; with LoRA, adapters that do something."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            attention_dropout=0.3,
            initializer_range=0.15,
            pad_token_id=0,
        )
        model: nn.Module = Qwen2ForCausalLM(config)
        if lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.5))
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.1)
    return model.train()


def _answer(rng: np.random.Generator, length: int, prefix: str = "") -> Row:
    tokens, prompt = rng.integers(1, VOCABULARY, length).tolist(), max(1, length // 3)
    labels = [-100] * prompt + tokens[prompt:]
    return {f"{prefix}input_ids": tokens, f"{prefix}attention_mask": [1] * length, f"{prefix}labels": labels}


def pairs() -> list[Row]:
    """Pairs of answers of different lengths."""
    rng = np.random.default_rng(4)
    others = LENGTHS[::-1]
    both = zip(LENGTHS, others, strict=True)
    return [_answer(rng, one, "chosen_") | _answer(rng, other, "rejected_") for one, other in both]


def marked() -> list[Row]:
    """Answers with a mark and, for the KL term, one that belongs to another prompt."""
    rng = np.random.default_rng(5)
    rows = []
    for place, length in enumerate(LENGTHS):
        row = _answer(rng, length) | _answer(rng, LENGTHS[place - 1], "kl_")
        rows.append({**row, "kto_tags": place % 3 != 0})
    return rows


def _padded(rows: Sequence[Row], prefix: str) -> dict[str, torch.Tensor]:
    width = -(-max(len(row[f"{prefix}input_ids"]) for row in rows) // 8) * 8
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[prefix + name] + [value] * (width - len(row[prefix + name])) for row in rows])
        for name, value in fill.items()
    }


def collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """As LlamaFactory's collators do: the chosen answers and then the rejected ones, or answers beside mismatched."""
    if "kto_tags" in rows[0]:
        other = {f"kl_{name}": value for name, value in _padded(rows, "kl_").items()}
        return {**_padded(rows, ""), **other, "kto_tags": torch.tensor([row["kto_tags"] for row in rows])}
    singles = [
        {name: row[f"{which}_{name}"] for name in ("input_ids", "attention_mask", "labels")}
        for which in ("chosen", "rejected")
        for row in rows
    ]
    return _padded(singles, "")


def trainer_of(stage: str, folder: Path | str, *, lora: bool = False, **finetuning: Any) -> Any:
    """LlamaFactory's own Trainer of a stage; without adapters, a reference of other weights for dpo and kto."""
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.train.dpo.trainer import CustomDPOTrainer
    from llamafactory.train.kto.trainer import CustomKTOTrainer
    from llamafactory.train.rm.trainer import PairwiseTrainer
    from transformers import TrainingArguments

    given = FinetuningArguments(stage=stage, finetuning_type="lora" if lora else "full", **finetuning)
    model = tiny(lora=lora)
    rows = marked() if stage == "kto" else pairs()
    known: dict[str, Any] = {
        "finetuning_args": given,
        "processor": None,
        "args": TrainingArguments(str(folder), use_cpu=True, report_to="none", remove_unused_columns=False),
        "data_collator": collate,
        "train_dataset": rows,
        "tokenizer": None,
    }
    if stage == "rm":
        from trl import AutoModelForCausalLMWithValueHead

        with torch.random.fork_rng():
            torch.manual_seed(1)
            valued = AutoModelForCausalLMWithValueHead.from_pretrained(model, summary_dropout_prob=0.0)
            nn.init.normal_(valued.v_head.summary.weight, std=0.5)
        return PairwiseTrainer(model=valued.train(), **known)
    uses_reference = stage == "kto" or given.use_ref_model
    reference = tiny(seed=7) if uses_reference and not lora else None
    cls = CustomDPOTrainer if stage == "dpo" else CustomKTOTrainer
    return cls(model=model, ref_model=reference, **known)


def context_of(trainer: Any, stage: str, *, rows: Any = None, **facts: Any) -> RunContext:
    """What a component sees of that Trainer's run."""
    pool = trainer.train_dataset if rows is None else rows
    return make_context(pool, collate, stage=stage, objective=objective_of(trainer, stage), **facts)


def stock(trainer: Any, stage: str, rows: Sequence[Row]) -> tuple[float, float]:
    """What the stage's Trainer computes on one batch: its loss, and its mean margin (NaN for kto)."""
    model = trainer.model
    flags = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        if stage == "rm":
            loss, (_, chosen, rejected) = trainer.compute_loss(model, collate(rows), return_outputs=True)
            margin = float((chosen - rejected).mean())
        else:
            loss, metrics = trainer.get_batch_loss_metrics(model, collate(rows))
            margin = metrics.get("rewards/margins", float("nan"))
    for module, training in flags.items():
        module.training = training
    return float(loss), margin


def score_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Score the kto pool on one of several ranks and save the losses."""
    with joined(rank, world_size, folder) as accelerator:
        trainer = trainer_of("kto", Path(folder, f"out{rank}"))
        context = context_of(trainer, "kto", accelerator=accelerator)
        found = context.preferences(trainer.model, range(len(LENGTHS)), token_budget=40)
        np.save(Path(folder, f"losses{rank}.npy"), found.losses, allow_pickle=False)
