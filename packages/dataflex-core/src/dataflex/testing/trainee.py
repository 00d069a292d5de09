"""A tiny model in the middle of its training: what a component is shown at a boundary."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dataflex.rng import rng_scope
from dataflex.testing.tiny import write_model
from dataflex.testing.tiny_models import write_moe

Row = dict[str, list[int]]

_SEED = 5
_TEXT = 250  # token ids below this one are bytes
_STEPS = 3


@dataclass(frozen=True)
class Trainee:
    """A model, and what trains it.

    Attributes:
        model: In train mode but for one module, its gradients zeroed.
        optimizer: AdamW with the moments of a few steps.
        scheduler: Its learning-rate schedule.
        tokenizer: The model's.
        collator: A list of rows to one batch, padded to the right.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    tokenizer: Any
    collator: Any


@dataclass(frozen=True)
class _Trained:
    """What every trainee of the same rows begins as, made once for a process."""

    folder: tempfile.TemporaryDirectory[str]
    model: Any
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    tokenizer: Any


def make_trainee(folder: Path, rows: Sequence[Row], *, experts: bool = False) -> Trainee:
    """Make a model with dropout, or a mixture of experts, and train it for a few steps.

    Global generators are left as they were. The model is trained once for a process, and copied.
    """
    from transformers import DataCollatorForSeq2Seq

    made = _trained(json.dumps(rows), experts)
    shutil.copytree(made.folder.name, folder, dirs_exist_ok=True)
    model, tokenizer = copy.deepcopy(made.model), copy.deepcopy(made.tokenizer)
    for named in (model, model.config, tokenizer):
        named.name_or_path = str(folder)
    optimizer, scheduler = _steppers(model)
    optimizer.load_state_dict(copy.deepcopy(made.optimizer))
    scheduler.load_state_dict(copy.deepcopy(made.scheduler))
    # A model whose modules are not all in train mode shows who calls train() where it should put flags back.
    next(module for module in model.modules() if isinstance(module, nn.Linear)).eval()
    collator = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, label_pad_token_id=-100)
    return Trainee(model, optimizer, scheduler, tokenizer, collator)


@cache
def _trained(rows: str, experts: bool) -> _Trained:
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq

    folder = tempfile.TemporaryDirectory(prefix="dataflex-trainee-")
    with rng_scope(_SEED), _no_progress():
        if experts:
            write_moe(Path(folder.name))
        else:
            write_model(Path(folder.name), dropout=0.1)
        tokenizer = AutoTokenizer.from_pretrained(folder.name)
        model = AutoModelForCausalLM.from_pretrained(folder.name, dtype=torch.float32)
        model.train()
        collator = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, label_pad_token_id=-100)
        optimizer, scheduler = _steppers(model)
        for step in range(_STEPS):
            batch = collator(json.loads(rows)[step :: _STEPS + 1][:4])
            model(**batch).loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return _Trained(folder, model, optimizer.state_dict(), scheduler.state_dict(), tokenizer)


def _steppers(model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=100)


def make_rows(count: int, name: str) -> list[Row]:
    """Rows of 6 to 40 random tokens, a function of (count, name); the first third of each is the prompt."""
    rng = np.random.default_rng([_SEED, *name.encode()])
    rows = []
    for length in rng.integers(6, 41, count).tolist():
        tokens = rng.integers(1, _TEXT, length).tolist()
        prompt = length // 3
        rows.append({"input_ids": tokens, "attention_mask": [1] * length, "labels": [-100] * prompt + tokens[prompt:]})
    return rows


@contextlib.contextmanager
def poisoned(model: Any, tokens: frozenset[int] | None) -> Iterator[None]:
    """A model that computes NaN for every sample that holds one of some tokens; ``None`` for every sample."""

    def poison(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        ids_BT = inputs[0]
        hit_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        if tokens is not None:
            hit_BT = torch.isin(ids_BT, torch.tensor(sorted(tokens)))
        return output.masked_fill(hit_BT.any(-1)[..., None, None], torch.nan)

    handle = model.get_input_embeddings().register_forward_hook(poison)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _no_progress() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
