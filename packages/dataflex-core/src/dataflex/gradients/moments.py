"""Adam's moments, as the run's optimizer holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dataflex.errors import ComponentError


@dataclass(frozen=True)
class AdamMoments:
    """The optimizer's memory of one parameter.

    Attributes:
        first: Running mean of its gradients (``exp_avg``), the optimizer's own tensor: read it only.
        second: Running mean of their squares (``exp_avg_sq``), likewise.
        step: Optimizer steps behind them.
        beta1: Decay of the first.
        beta2: Decay of the second.
        eps: Added to the root of the second.
    """

    first: torch.Tensor
    second: torch.Tensor
    step: int
    beta1: float
    beta2: float
    eps: float


def adam_moments(optimizer: Any, parameters: Mapping[str, nn.Parameter]) -> dict[str, AdamMoments]:
    """Look up the moments of parameters in the run's optimizer.

    A parameter that never had a gradient has none; zeros stand for them.

    Args:
        optimizer: The run's optimizer, as the Trainer holds it; wrappers of accelerate are looked through.
        parameters: By name; the very objects the optimizer steps.

    Raises:
        ComponentError: when the optimizer keeps no such moments (8 bits, GaLore, SGD), or has not stepped yet.
    """
    bare = optimizer
    while hasattr(bare, "optimizer"):
        bare = bare.optimizer
    groups = {id(value): group for group in getattr(bare, "param_groups", ()) for value in group["params"]}
    unknown = [name for name, value in parameters.items() if id(value) not in groups]
    if unknown:
        raise ComponentError(
            f"the optimizer ({type(bare).__name__}) does not step {unknown[0]} itself, so its moments cannot be read: "
            "it holds shards or copies of the parameters (FSDP, DeepSpeed). Run under DDP, or set "
            "component_params.preconditioner: sgd."
        )
    found = {name: _of(name, value, bare, groups[id(value)]) for name, value in parameters.items()}
    if all(moments.step == 0 for moments in found.values()):
        raise _without_moments(bare, "has not stepped yet")
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
    return AdamMoments(first, second, int(state.get("step", 1)), beta1, beta2, group.get("eps", 1e-8))


def _without_moments(optimizer: Any, reason: str) -> ComponentError:
    return ComponentError(
        f"the optimizer ({type(optimizer).__name__}) holds no Adam moments (exp_avg, exp_avg_sq): it {reason}. Set "
        "warmup_step above 0 and optim: adamw_torch, or component_params.preconditioner: sgd."
    )
