"""LESS under FSDP2, on two ranks over gloo; importable by a spawned process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gloo import joined
from less_cases import Pad, pool_and_goals, rows_of, selector, tiny_qwen, with_lora
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from dataflex import Selection
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.moments import adam_moments
from dataflex.spread import reshard, whole

CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora, checkpointing": {"checkpointing": True},
    "lora, one by one": {"modules_to_save": ["embed_tokens"]},
    "full": {"full": True, "parameters": "linear"},
    "full, checkpointing": {"full": True, "parameters": "linear", "checkpointing": True},
    "full, tied": {"full": True, "parameters": "linear", "tied": True},
    "full, one by one": {"full": True},
}
FIRST = ("lora",)
"""Cases that every run of the tests looks at."""

OPTIONS: dict[str, dict[str, Any]] = {
    "official": {"preconditioner": "official"},
    "adam": {"preconditioner": "adam"},
    "sgd": {"preconditioner": "sgd"},
    "linear": {"preconditioner": "linear"},
    "sjlt": {"preconditioner": "official", "projection": "sjlt", "proj_dim": 256},
    "votes": {"preconditioner": "adam", "aggregate": "votes"},
}
GROUPS = {"betas": (0.8, 0.99), "eps": 1e-6}
"""Of every second parameter, so that groups are not mistaken for each other."""


def model_of(case: str) -> nn.Module:
    """The model of a case, in fp32."""
    settings = CASES[case]
    model = tiny_qwen(tied=bool(settings.get("tied")))
    if not settings.get("full"):
        model = with_lora(model, modules_to_save=settings.get("modules_to_save"))
    if settings.get("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    return model


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    """AdamW with two groups."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    return torch.optim.AdamW([{"params": trainable[::2]}, {"params": trainable[1::2], **GROUPS}], lr=1e-3)


def options_of(case: str, label: str) -> dict[str, Any]:
    """Parameters of ``less``."""
    return {"token_budget": 64, "parameters": CASES[case].get("parameters", "all"), **OPTIONS[label]}


def data_of(case: str) -> tuple[list[Any], dict[str, list[Any]]]:
    """A pool with a row without targets, and eval sets of several batches a rank."""
    pool, goals = pool_and_goals(size=15)
    pool[3] = {**pool[3], "labels": [-100] * len(pool[3]["labels"])}
    return pool, goals


def sharded(model: nn.Module) -> nn.Module:
    """Spread by FSDP2, a unit for each decoder layer and the root."""
    mesh = init_device_mesh("cpu", (2,))
    layers = [module for module in model.modules() if type(module).__name__ == "Qwen2DecoderLayer"]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Every parameter in pieces that are smaller than the whole; one unit for each decoder layer, and the root."""
    spread = all(
        isinstance(value, DTensor) and value.to_local().numel() < value.numel() for value in model.parameters()
    )
    units = [type(module).__name__ for module in model.modules() if isinstance(module, FSDPModule)]
    return spread and len(units) == 3 and sum("DecoderLayer" in name for name in units) == 2


def select_under_fsdp2(rank: int, world_size: int, folder: str) -> None:
    """For every case in ``cases.txt``, amid an accumulation: select and finish the step; then the same without."""
    with joined(rank, world_size, folder) as accelerator:
        for case in Path(folder, "cases.txt").read_text(encoding="utf-8").splitlines():
            results: dict[str, Any] = {"selections": {}}
            results["with"] = _step_with(accelerator, rank, case, results)
            results["without"] = _step_with(accelerator, rank, case, None)
            torch.save(results, Path(folder, f"{case} {rank}.pt"))


def _step_with(accelerator: Any, rank: int, case: str, results: dict[str, Any] | None) -> list[torch.Tensor]:
    """A step of two micro-batches; what was selected between them, and this rank's pieces afterwards."""
    model: Any = sharded(model_of(case))
    optimizer = optimizer_of(model)
    _warm_up(model, optimizer)
    rows = rows_of([10, 12, 14, 16], seed=5)
    torch.manual_seed(rank)
    model.set_requires_gradient_sync(False)
    model(**Pad()([dict(rows[rank])])).loss.backward()
    if results is not None:
        reshard(model)
        results["sharded"] = is_sharded(model)
        coverage = cover(model, Scope.ALL)
        results["moments"] = adam_moments(optimizer, coverage.parameters)
        results["weights"] = {name: whole(value).clone() for name, value in model.named_parameters()}
        pool, goals = data_of(case)
        for label in OPTIONS:
            less = selector(pool, goals, optimizer, accelerator=accelerator, **options_of(case, label))
            chosen = less.select(model, 6, 5)
            facts = {"rows": chosen.rows, "scores": chosen.scores, "one_by_one": chosen.metrics["one_by_one"]}
            results["selections"][label] = facts
        results["sharded after"] = is_sharded(model)
    model.set_requires_gradient_sync(True)
    model(**Pad()([dict(rows[2 + rank])])).loss.backward()
    optimizer.step()
    reshard(model)
    state = [value for kept in optimizer.state.values() for value in kept.values() if isinstance(value, DTensor)]
    return [value.detach().to_local().clone() for value in [*model.parameters(), *state]]


def _warm_up(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    rows = rows_of([16] * 6, seed=99)
    for step in range(3):
        model(**Pad()([dict(row) for row in rows[2 * step : 2 * step + 2]])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def same(these: list[torch.Tensor], those: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return len(these) == len(those) and all(map(torch.equal, these, those))


def scores_alone(case: str, results: dict[str, Any], label: str) -> Selection:
    """What one plain process selects with these weights and moments."""
    model = model_of(case)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in results["weights"].items():
            own[name].copy_(value)
    optimizer = optimizer_of(model)
    for name, memory in results["moments"].items():
        state = {"step": torch.tensor(float(memory.step)), "exp_avg": memory.first, "exp_avg_sq": memory.second}
        optimizer.state[own[name]] = state
    pool, goals = data_of(case)
    return selector(pool, goals, optimizer, **options_of(case, label)).select(model, 6, 5)
