"""What a component must leave as it found it: photographed before it is asked, compared afterwards."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def generators() -> dict[str, Any]:
    """States of the global generators of Python, NumPy and torch."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002 - looked at, not drawn from
    return {
        "random": random.getstate(),
        "numpy.random": _plain(state),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def weights(model: nn.Module) -> dict[str, bytes]:
    """Parameters and buffers, bit by bit."""
    return {name: _bits(value) for name, value in [*model.named_parameters(), *model.named_buffers()]}


def gradients(model: nn.Module) -> dict[str, bytes | None]:
    """Gradients, bit by bit."""
    return {name: None if value.grad is None else _bits(value.grad) for name, value in model.named_parameters()}


def trainable(model: nn.Module) -> dict[str, bool]:
    """Which parameters are trained."""
    return {name: value.requires_grad for name, value in model.named_parameters()}


def modes(model: nn.Module) -> dict[str, bool]:
    """Which modules are in train mode."""
    return {name: module.training for name, module in model.named_modules()}


def hooks(model: nn.Module) -> dict[str, list[int]]:
    """Hooks of modules and parameters, and methods that were put over a module's own."""
    found: dict[str, list[int]] = {}
    for name, module in model.named_modules():
        for kind in _HOOKS:
            found[f"{name}.{kind}"] = [id(hook) for hook in (getattr(module, kind, None) or {}).values()]
        found[f"{name}.forward"] = [id(module.__dict__.get("forward"))]
    for name, value in model.named_parameters():
        for kind in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            found[f"{name}.{kind}"] = [id(hook) for hook in (getattr(value, kind, None) or {}).values()]
    return found


def optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State and settings of an optimizer, by name."""
    return dict(_flat("optimizer", copy.deepcopy(optimizer.state_dict())))


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names whose values differ, or that came or went."""
    return [name for name in {**before, **after} if name not in before or before[name] != after.get(name)]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _flat(f"{name}.{place}", item)
    else:
        yield name, _bits(value) if isinstance(value, torch.Tensor) else value


def _bits(value: torch.Tensor) -> bytes:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tobytes() if isinstance(value, np.ndarray) else value
