"""LESS under DeepSpeed's ZeRO, on two ranks over gloo; importable by a spawned process."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from less_cases import Pad, pool_and_goals, rows_of, selector, tiny_qwen, with_lora
from torch import nn

from dataflex import Selection
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.moments import adam_moments

CASES = {
    "zero-0": {"stage": 0},
    "zero-1": {"stage": 1},
    "zero-2": {"stage": 2},
    "zero-2, one by one": {"stage": 2, "modules_to_save": ["embed_tokens"]},
    "zero-2, full": {"stage": 2, "full": True},
    "zero-2, bf16": {"stage": 2, "bf16": True},
    "zero-1, bf16": {"stage": 1, "bf16": True},
}
GROUPS = {"betas": (0.8, 0.99), "eps": 1e-6}
"""Of the second group of parameters, so that groups are not mistaken for each other."""


def model_of(case: str) -> nn.Module:
    """The model of a case, in fp32."""
    settings = CASES[case]
    if settings.get("full"):
        return tiny_qwen()
    return with_lora(tiny_qwen(), modules_to_save=settings.get("modules_to_save"))


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    """AdamW with two groups, as the Trainer makes them of weights that decay and others that do not."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    half = len(trainable) // 2
    return torch.optim.AdamW([{"params": trainable[:half]}, {"params": trainable[half:], **GROUPS}], lr=1e-3)


def warmup_losses(model: nn.Module) -> Iterator[torch.Tensor]:
    """Losses of three steps, the same on every rank."""
    torch.manual_seed(1)
    rows = rows_of([16] * 6, seed=99)
    for step in range(3):
        yield model(**Pad()(rows[2 * step : 2 * step + 2])).loss


def select_under_zero(rank: int, world_size: int, folder: str) -> None:
    """For every case, in the middle of an accumulation: select and finish the step; then the same without."""
    with _joined(rank, world_size, folder) as accelerator:
        for case in CASES:
            results: dict[str, Any] = {}
            chosen, results["with"] = _step_with(accelerator, rank, case, results, selecting=True)
            _, results["without"] = _step_with(accelerator, rank, case, {}, selecting=False)
            assert chosen is not None and chosen.scores is not None
            results |= {"rows": chosen.rows, "scores": chosen.scores, "one_by_one": chosen.metrics["one_by_one"]}
            torch.save(results, Path(folder, f"{case} {rank}.pt"))


def _step_with(
    accelerator: Any, rank: int, case: str, results: dict[str, Any], *, selecting: bool
) -> tuple[Selection | None, list[torch.Tensor]]:
    """A step of two micro-batches; what was selected between them, and afterwards weights and this rank's state."""
    import deepspeed

    model = model_of(case)
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": CASES[case]["stage"]},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bool(CASES[case].get("bf16"))},
    }
    engine, optimizer, _, _ = deepspeed.initialize(model=model, optimizer=optimizer_of(model), config=config)
    for loss in warmup_losses(engine):
        engine.backward(loss)
        engine.step()
    rows, chosen = rows_of([10, 12, 14, 16], seed=5), None
    torch.manual_seed(rank)
    engine.set_gradient_accumulation_boundary(False)
    engine.backward(engine(**Pad()([dict(rows[rank])])).loss)
    hooks = _hooks(model)
    if selecting:
        coverage = cover(model, Scope.ALL)
        results["moments"] = copy.deepcopy(adam_moments(optimizer, coverage.parameters))  # of now
        results["weights"] = {name: value.detach().clone() for name, value in model.named_parameters()}
        pool, goals = pool_and_goals()
        less = selector(pool, goals, optimizer, accelerator=accelerator, token_budget=64, preconditioner="adam")
        chosen = less.select(accelerator.unwrap_model(engine), 6, 5)
    assert _hooks(model) == hooks
    engine.set_gradient_accumulation_boundary(True)
    engine.backward(engine(**Pad()([dict(rows[2 + rank])])).loss)
    engine.step()
    bare = optimizer
    while hasattr(bare, "optimizer"):
        bare = bare.optimizer
    state = [value for kept in bare.state.values() for value in kept.values() if torch.is_tensor(value)]
    after = [value.detach().clone() for value in [*model.parameters(), *state]]
    engine.destroy()
    return chosen, after


def _hooks(model: nn.Module) -> list[list[int]]:
    return [list(value._post_accumulate_grad_hooks or ()) for value in model.parameters()]


@contextlib.contextmanager
def _joined(rank: int, world_size: int, folder: str) -> Iterator[Any]:
    """Join the group over a file; yields an accelerator that takes part in it as under DeepSpeed."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    os.environ.update(LOCAL_WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT="0", DS_ACCELERATOR="cpu")
    import deepspeed
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin, DistributedType

    method = f"file://{folder}/rendezvous"
    deepspeed.init_distributed("gloo", init_method=method, rank=rank, world_size=world_size, auto_mpi_discovery=False)
    try:
        accelerator = Accelerator(deepspeed_plugin=DeepSpeedPlugin(zero_stage=2))
        assert accelerator.distributed_type is DistributedType.DEEPSPEED and accelerator.num_processes == world_size
        yield accelerator
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def same(these: list[torch.Tensor], those: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return len(these) == len(those) and all(map(torch.equal, these, those))


def scores_alone(case: str, results: dict[str, Any]) -> Selection:
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
    pool, goals = pool_and_goals()
    return selector(pool, goals, optimizer, token_budget=64, preconditioner="adam").select(model, 6, 5)


def plain_moments(case: str) -> tuple[nn.Module, torch.optim.AdamW]:
    """The same warm-up by the plain optimizer in one process."""
    model = model_of(case)
    optimizer = optimizer_of(model)
    for loss in warmup_losses(model):
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer
