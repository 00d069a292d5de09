"""A selection leaves no trace, and is the same on two ranks."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks
from less_cases import (
    RANK_CASES,
    backward,
    coupled_selection,
    pool_and_goals,
    rows_of,
    select_on_a_rank,
    selector,
    tiny_qwen,
    train_step,
    warmed_up,
    with_lora,
)
from torch import nn

KINDS = {
    "lora": lambda: with_lora(tiny_qwen()),
    "embeddings, one by one": lambda: with_lora(tiny_qwen(), modules_to_save=["embed_tokens"]),
    "full": tiny_qwen,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def _hooks(model: nn.Module) -> list[tuple[Any, ...]]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return [tuple(dict(getattr(module, kind)) for kind in kinds) for module in model.modules()]


@every_kind
def test_model_optimizer_and_generators_are_as_they_were(kind: str) -> None:
    model = KINDS[kind]()
    optimizer = warmed_up(model)
    backward(model, rows_of([10], seed=3))
    for place, module in enumerate(model.modules()):
        module.training = place % 3 != 0  # a mix, as with frozen parts
    grads = {name: value.grad for name, value in model.named_parameters()}
    copies = {name: None if grad is None else grad.clone() for name, grad in grads.items()}
    weights, memory = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    flags, hooks = [module.training for module in model.modules()], _hooks(model)
    attributes = [set(vars(module)) for module in model.modules()]
    required = [value.requires_grad for value in model.parameters()]
    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())

    rows, goals = pool_and_goals()
    selector(rows, goals, optimizer, parameters="linear" if kind == "full" else "all").select(model, 6, 5)

    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(value.grad is grads[name] for name, value in model.named_parameters())
    assert all(grad is None or torch.equal(grad, copies[name]) for name, grad in grads.items())
    now = optimizer.state_dict()
    assert now["param_groups"] == memory["param_groups"]
    for key, kept in memory["state"].items():
        assert all(torch.equal(now["state"][key][name], value) for name, value in kept.items())
    assert [module.training for module in model.modules()] == flags and _hooks(model) == hooks
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert [value.requires_grad for value in model.parameters()] == required
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(np.array_equal(here, there) for here, there in zip(np.random.get_state(), states[1], strict=True))
    assert random.getstate() == states[2]


@every_kind
def test_a_selection_in_the_middle_of_an_accumulation_leaves_the_next_step_bitwise_equal(kind: str) -> None:
    results = []
    for selecting in (True, False):
        model = KINDS[kind]()
        optimizer = warmed_up(model)
        first, second = rows_of([10, 14], seed=3), rows_of([9, 20], seed=4)
        torch.manual_seed(7)  # dropout draws in both halves
        backward(model, first)
        if selecting:
            rows, goals = pool_and_goals()
            selector(rows, goals, optimizer).select(model, 6, 5)
        train_step(model, optimizer, second)
        results.append(torch.cat([value.detach().flatten() for value in model.parameters()]))
    assert torch.equal(*results)


def test_the_forwards_come_back_when_a_batch_fails() -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    rows, goals = pool_and_goals()
    attributes = [set(vars(module)) for module in model.modules()]
    model.base_model.model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        selector(rows, goals, optimizer).select(model, 6, 5)
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("case", RANK_CASES)
def test_two_ranks_choose_what_one_chooses_and_train_on_as_if_nothing_had_happened(case: str, tmp_path: Path) -> None:
    folder = tmp_path / case
    folder.mkdir()
    run_on_two_ranks(select_on_a_rank, folder)
    if case == "batched":  # and one rank found out that a batch is wrong: both went one row at a time
        coupled = coupled_selection()
        for rank in range(2):
            scores = np.load(folder / f"coupled{rank}.npy", allow_pickle=False)
            np.testing.assert_allclose(scores, coupled.scores, atol=1e-6, rtol=0)
    make_model, token_budget = RANK_CASES[case]
    model = make_model()
    rows, goals = pool_and_goals()
    alone = selector(rows, goals, warmed_up(model), token_budget=token_budget).select(model, 6, 5)
    assert alone.metrics["one_by_one"] == (case != "batched")
    for rank in range(2):
        np.testing.assert_array_equal(np.load(folder / f"rows{rank}.npy", allow_pickle=False), alone.rows)
        scores = np.load(folder / f"scores{rank}.npy", allow_pickle=False)
        np.testing.assert_allclose(scores, alone.scores, atol=1e-6, rtol=0)
        assert (folder / f"same{rank}.txt").read_text() == "True"
