"""Models, pools and the independent reference that the tests of LESS share; importable by a spawned process."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn

from dataflex import Selection
from dataflex.testing import make_context
from dataflex_selectors_less.params import LessParams
from dataflex_selectors_less.selector import LessSelector

VOCABULARY = 120
Row = dict[str, list[int]]


def tiny_qwen(
    seed: int = 0,
    *,
    hidden: int = 32,
    tied: bool = False,
    initializer_range: float = 0.2,
    attention_dropout: float = 0.3,
) -> nn.Module:
    """A random Qwen2 with attention dropout."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            attention_dropout=attention_dropout,
            initializer_range=initializer_range,
            tie_word_embeddings=tied,
        )
        model: nn.Module = Qwen2ForCausalLM(config)
    return model.train()


def with_lora(model: nn.Module, seed: int = 0, **config: Any) -> nn.Module:
    """LoRA on every linear layer, with dropout, and adapters that do something."""
    from peft import LoraConfig, get_peft_model

    options = {"r": 4, "lora_dropout": 0.5, "target_modules": "all-linear"} | config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted: nn.Module = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.1)
    return adapted.train()


class Twice(nn.Module):
    """One adapter used at two places."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 0.5 * self.inner(2 * x)


def with_an_adapter_used_twice() -> nn.Module:
    """Nothing but a batch shows that its samples cannot be told apart."""
    model = with_lora(tiny_qwen())
    mlp: Any = model.get_submodule("base_model.model.model.layers.0.mlp")
    mlp.down_proj = Twice(mlp.down_proj)
    return model


def rows_of(lengths: Sequence[int], seed: int) -> list[Row]:
    """Rows of random tokens; the first third of each is the prompt."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        tokens = rng.integers(1, VOCABULARY, length).tolist()
        prompt = max(1, length // 3)
        rows.append({"input_ids": tokens, "attention_mask": [1] * length, "labels": [-100] * prompt + tokens[prompt:]})
    return rows


def pool_and_goals(seed: int = 0, size: int = 14) -> tuple[list[Row], dict[str, list[Row]]]:
    """A ragged pool and two eval sets of unequal size."""
    lengths = np.random.default_rng([seed, 7]).integers(3, 40, size).tolist()
    goals = {"one": rows_of([12, 5, 21, 9, 17], seed + 1), "two": rows_of([8, 30], seed + 2)}
    return rows_of(lengths, seed + 3), goals


class Pad:
    """Pads with token 0 on either side, to a multiple of 8, as LlamaFactory's collator does."""

    def __init__(self, side: str = "right", multiple: int = 8) -> None:
        self.side, self.pad_to_multiple_of = side, multiple

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        multiple = self.pad_to_multiple_of
        width = -(-max(len(feature["input_ids"]) for feature in features) // multiple) * multiple
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        batch: dict[str, list[list[int]]] = {name: [] for name in fill}
        for feature in features:
            for name, value in fill.items():
                tokens = feature.pop(name)
                missing = [value] * (width - len(tokens))
                batch[name].append([*tokens, *missing] if self.side == "right" else [*missing, *tokens])
        return {name: torch.tensor(rows) for name, rows in batch.items()}


def warmed_up(
    model: nn.Module, steps: int = 3, other: Mapping[str, Any] | None = None, **options: Any
) -> torch.optim.Optimizer:
    """Train a few steps, so that moments mean something; every second weight is of a group with ``other`` options."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    groups = [{"params": trainable[::2]}, {"params": trainable[1::2], **(other or {})}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, **options)
    rows = rows_of([16] * 2 * steps, seed=99)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for step in range(steps):
            train_step(model, optimizer, rows[2 * step : 2 * step + 2])
    return optimizer


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, rows: Sequence[Row]) -> None:
    """One ordinary optimizer step."""
    backward(model, rows)
    optimizer.step()
    optimizer.zero_grad()


def backward(model: nn.Module, rows: Sequence[Row]) -> None:
    """An ordinary forward and backward of the Trainer's kind."""
    model(**Pad()([dict(row) for row in rows])).loss.backward()


def selector(
    rows: Any,
    goals: Mapping[str, Any],
    optimizer: Any = None,
    *,
    collator: Any = None,
    accelerator: Any = None,
    seed: int = 1,
    cache_dir: Path = Path("unused"),
    scheduler: Any = None,
    **params: Any,
) -> LessSelector:
    context = make_context(
        rows,
        collator or Pad(),
        accelerator=accelerator,
        seed=seed,
        eval_datasets=goals,
        optimizer=lambda: optimizer,
        scheduler=lambda: scheduler,
        cache_dir=cache_dir,
    )
    return LessSelector(LessParams(**{"shard_seconds": 0, **params}), context)


def reference_cosines(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    rows: Sequence[Row],
    goals: Mapping[str, Sequence[Row]],
    preconditioner: str = "official",
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """LESS by the book: fp64, one unpadded sample at a time, Hugging Face's loss, whole gradients side by side.

    Returns:
        Mean cosines, shape [rows, goals].
    """
    exact = copy.deepcopy(model).double().eval()
    wanted = {name: value for name, value in exact.named_parameters() if value.requires_grad}
    wanted = {name: value for name, value in wanted.items() if names is None or name in names}
    own, nothing = (
        dict(model.named_parameters()),
        {"exp_avg": torch.zeros(()), "exp_avg_sq": torch.zeros(()), "step": 0},
    )
    groups = {value: group for group in (optimizer.param_groups if optimizer else ()) for value in group["params"]}

    def gradient(row: Row) -> list[torch.Tensor]:
        loss = exact(**{name: torch.tensor([value]) for name, value in row.items()}).loss
        return list(torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True))

    def step(row: Row) -> torch.Tensor:
        parts = []
        for name, grad in zip(wanted, gradient(row), strict=True):
            if preconditioner == "sgd":
                parts.append(grad.flatten())
                continue
            state, group = optimizer.state.get(own[name]) or nothing, groups[own[name]]
            m, v = state["exp_avg"].double(), state["exp_avg_sq"].double()
            if preconditioner == "official":
                new_m, new_v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
                parts.append((new_m / torch.sqrt(new_v + 1e-8)).flatten())
            else:
                (b1, b2), t = group["betas"], float(state["step"]) + 1
                new_m, new_v = (b1 * m + (1 - b1) * grad) / (1 - b1**t), (b2 * v + (1 - b2) * grad**2) / (1 - b2**t)
                parts.append((new_m / (new_v.sqrt() + group["eps"])).flatten())
        return torch.cat(parts)

    steps = torch.stack([step(row) for row in rows])
    columns = []
    for goal in goals.values():
        aims = torch.stack([torch.cat([part.flatten() for part in gradient(row)]) for row in goal])
        cosines = (steps @ aims.T) / steps.norm(dim=1, keepdim=True) / aims.norm(dim=1)
        columns.append(cosines.mean(dim=1))
    return torch.stack(columns, dim=1).numpy()


class CoupledWhereShort(nn.Module):
    """Rows of a batch see each other if they are short."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        return y + 0.3 * y.mean(dim=0) if x.shape[0] > 1 and x.shape[1] <= 8 else y


def coupled_selection(accelerator: Any = None) -> Selection:
    """Of two batches one is wrong; where there are two ranks, it is the second rank's, and no other of its is."""
    model: Any = with_lora(tiny_qwen())
    layers = model.base_model.model.model.layers
    layers[0].mlp = CoupledWhereShort(layers[0].mlp)
    pool, goals = rows_of([16] * 4 + [8, 7, 6, 5], seed=3), {"one": rows_of([16] * 4, seed=4)}
    options: dict[str, Any] = {"preconditioner": "sgd", "token_budget": 64}
    return selector(pool, goals, None, accelerator=accelerator, **options).select(model, 6, 3)


RANK_CASES = {
    "batched": (lambda: with_lora(tiny_qwen()), 64),
    "loop": (lambda: with_lora(tiny_qwen(), modules_to_save=["embed_tokens"]), 64),
    "found out by one rank": (with_an_adapter_used_twice, 1000),
}
"""Models and token budgets. In the last case there is one batch of each set, so that the second rank has none."""


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Under DDP, in the middle of an accumulation: select and finish the step; then the same without selecting."""
    with joined(rank, world_size, folder) as accelerator:
        chosen, weights = _step_with(accelerator, rank, Path(folder).name, selecting=True)
        assert chosen is not None and chosen.scores is not None
        np.save(Path(folder, f"rows{rank}.npy"), np.asarray(chosen.rows), allow_pickle=False)
        np.save(Path(folder, f"scores{rank}.npy"), chosen.scores, allow_pickle=False)
        if Path(folder).name == "batched":
            coupled = coupled_selection(accelerator)
            np.save(Path(folder, f"coupled{rank}.npy"), coupled.scores, allow_pickle=False)
            assert coupled.metrics["one_by_one"] == 1
        _, undisturbed = _step_with(accelerator, rank, Path(folder).name, selecting=False)
        Path(folder, f"same{rank}.txt").write_text(str(torch.equal(weights, undisturbed)), encoding="utf-8")


def _step_with(accelerator: Any, rank: int, case: str, *, selecting: bool) -> tuple[Selection | None, torch.Tensor]:
    """A step of two micro-batches, and what was selected between them."""
    make_model, token_budget = RANK_CASES[case]
    model = make_model()
    optimizer = warmed_up(model)
    wrapped = nn.parallel.DistributedDataParallel(model)
    rows, chosen = rows_of([10, 12, 14, 16], seed=5), None
    torch.manual_seed(rank)
    with wrapped.no_sync():
        backward(wrapped, [rows[rank]])
    if selecting:
        pool, goals = pool_and_goals()
        less = selector(pool, goals, optimizer, accelerator=accelerator, token_budget=token_budget)
        chosen = less.select(accelerator.unwrap_model(wrapped), 6, 5)
    backward(wrapped, [rows[2 + rank]])
    optimizer.step()
    return chosen, torch.cat([value.detach().flatten() for value in model.parameters()])
