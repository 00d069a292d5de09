"""Adam's moments, as the run's optimizer holds them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dataflex.errors import ComponentError
from dataflex.spread import whole


@dataclass(frozen=True)
class AdamMoments:
    """The optimizer's memory of one parameter.

    Attributes:
        first: Running mean of its gradients (``exp_avg``), mostly the optimizer's own tensor: read it only.
        second: Running mean of their squares (``exp_avg_sq``), likewise.
        step: Optimizer steps behind them.
        beta1: Decay of the first.
        beta2: Decay of the second.
        eps: Added to the root of the second.
        rate: Learning rate of its group beside those of the others: the step it is about to make is proportional to
            it. 1 where all groups have the same.
    """

    first: torch.Tensor
    second: torch.Tensor
    step: int
    beta1: float
    beta2: float
    eps: float
    rate: float = 1.0


def adam_moments(optimizer: Any, parameters: Mapping[str, nn.Parameter]) -> dict[str, AdamMoments]:
    """Look up the moments of parameters in the run's optimizer.

    A parameter that never had a gradient has none; zeros stand for them. Under FSDP2 and DeepSpeed's ZeRO-1 and 2
    every rank holds a part of the moments: they are put together, 8 bytes per number of ``parameters`` on each rank
    (in fp32). All ranks must call this then, with the same parameters in the same order.

    Args:
        optimizer: The run's optimizer, as the Trainer holds it; wrappers of accelerate are looked through.
        parameters: By name; the very objects the model holds.

    Raises:
        ComponentError: when the optimizer keeps no such moments (8 bits, GaLore, SGD), or has not stepped yet.
    """
    bare, partitioned = optimizer, _zero_groups(optimizer)
    while hasattr(bare, "optimizer"):
        bare = bare.optimizer
        partitioned = partitioned or _zero_groups(bare)
    own = getattr(bare, "param_groups", ())
    stepped = partitioned or [group["params"] for group in own]
    groups = {id(value): group for values, group in zip(stepped, own, strict=True) for value in values}
    unknown = [name for name, value in parameters.items() if id(value) not in groups]
    if unknown:
        raise ComponentError(
            f"the optimizer ({type(bare).__name__}) does not step {unknown[0]} itself, so its moments cannot be read: "
            "it holds shards or copies of the parameters (FSDP1, DeepSpeed's ZeRO-3, or its stage 0 in 16 bits). Run "
            "under DDP, FSDP2, ZeRO-1 or ZeRO-2, or set component_params.preconditioner: sgd."
        )
    if partitioned:
        return _gathered(parameters, bare, partitioned, groups)
    rates = _rates(own)
    found = {
        name: replace(_of(name, value, bare, group := groups[id(value)]), rate=rates[id(group)])
        for name, value in parameters.items()
    }
    if all(moments.step == 0 for moments in found.values()):
        raise _without_moments(bare, "has not stepped yet")
    return found


def _rates(groups: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Learning rate of each group, by its identity, as a share of the highest.

    A schedule may have brought all of them to 0, which says nothing of the groups: then those it began with count.
    """
    for key in ("lr", "initial_lr"):
        rates = [float(group.get(key, 0.0)) for group in groups]
        if max(rates, default=0.0) > 0:
            return {id(group): rate / max(rates) for group, rate in zip(groups, rates, strict=True)}
    return {id(group): 1.0 for group in groups}


def _zero_groups(optimizer: Any) -> list[list[nn.Parameter]]:
    """The model's parameters by group, of an optimizer of ZeRO-1 or 2: the one below it steps a flat fp32 part."""
    groups = getattr(optimizer, "bit16_groups", None) or getattr(optimizer, "bf16_groups", None)  # in fp32 runs too
    return [list(group) for group in groups or ()]


def _gathered(
    parameters: Mapping[str, nn.Parameter],
    optimizer: Any,
    partitioned: Sequence[Sequence[nn.Parameter]],
    groups: Mapping[int, Mapping[str, Any]],
) -> dict[str, AdamMoments]:
    """Whole moments from every rank's part of them. What can fail does so before ranks meet, and on all of them."""
    deepspeed = importlib.import_module("deepspeed.utils")  # no dependency of ours: who made this optimizer has it
    for values, group in zip(partitioned, optimizer.param_groups, strict=True):
        (flat,) = group["params"]
        state = optimizer.state.get(flat, {})
        if not state:
            raise _without_moments(optimizer, "has not stepped yet")
        if any(getattr(state.get(key), "shape", None) != flat.shape for key in ("exp_avg", "exp_avg_sq")):
            raise _without_moments(optimizer, f"keeps {', '.join(state)} of another kind or shape")
        # DeepSpeed does so itself at the end of the first group's first step: too late after a resume, and too early
        # for the other groups.
        deepspeed.lazy_init_hp_params_optimizer_state(values, flat, optimizer.state)
    found, rates = {}, _rates(optimizer.param_groups)
    for name, value in parameters.items():
        group = groups[id(value)]
        beta1, beta2 = group.get("betas", (0.9, 0.999))
        step = int(optimizer.state[group["params"][0]].get("step", group.get("step", 1)))
        first, second = (deepspeed.safe_get_full_optimizer_state(value, key) for key in ("exp_avg", "exp_avg_sq"))
        eps = group.get("eps", 1e-8)
        found[name] = AdamMoments(first, second, step, beta1, beta2, eps, rates[id(group)])
    return found


def _of(name: str, parameter: nn.Parameter, optimizer: Any, group: Mapping[str, Any]) -> AdamMoments:
    state = optimizer.state.get(parameter, {})
    beta1, beta2 = group.get("betas", (0.9, 0.999))
    first, second = state.get("exp_avg"), state.get("exp_avg_sq")
    if not state:
        zeros = torch.zeros((), device=parameter.device).expand(parameter.shape)
        return AdamMoments(zeros, zeros, 0, beta1, beta2, group.get("eps", 1e-8))
    if first is None or second is None or first.shape != parameter.shape:
        raise _without_moments(optimizer, f"keeps {', '.join(state)} of another kind or shape for {name}")
    return AdamMoments(whole(first), whole(second), int(state.get("step", 1)), beta1, beta2, group.get("eps", 1e-8))


def _without_moments(optimizer: Any, reason: str) -> ComponentError:
    return ComponentError(
        f"the optimizer ({type(optimizer).__name__}) holds no Adam moments (exp_avg, exp_avg_sq): it {reason}. Set "
        "warmup_step above 0 and optim: adamw_torch, or component_params.preconditioner: sgd."
    )
