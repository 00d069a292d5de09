"""RoPE whose frequencies follow the length of the batch: of the types ``dynamic`` and ``longrope``.

The frequencies of a forward pass then depend on the longest row of the batch, padding included, and transformers keeps
them in the module's buffers for the passes to come. So a row's loss depends on what it is batched with and on what ran
before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_FREQUENCIES, _ORIGINAL = "inv_freq", "original_inv_freq"


@dataclass(frozen=True)
class LengthScaling:
    """RoPE that treats long batches differently.

    Attributes:
        kind: Its type: ``dynamic`` or ``longrope``.
        above: Positions up to which the length of a batch changes nothing.
    """

    kind: str
    above: int


def length_scaling(model: nn.Module) -> LengthScaling | None:
    """How a model's RoPE depends on the length of a batch; ``None`` if it does not."""
    found = [
        LengthScaling(kind, _threshold(module, kind, layer))
        for module in model.modules()
        for layer, kind in _kinds(module).items()
    ]
    return min(found, key=lambda scaling: scaling.above, default=None)


@contextlib.contextmanager
def fresh_frequencies(model: nn.Module) -> Iterator[None]:
    """Every forward pass begins with the frequencies of a model that was just loaded, whatever ran before it.

    Training leaves the frequencies of its last long batch behind. They are in no checkpoint, so scores that depended
    on them could not be had again.
    """
    modules = [module for module in model.modules() if _kinds(module)]
    kept = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            module.__dict__["forward"] = _fresh(module, module.forward)
        yield
    finally:
        for module, forward in zip(modules, kept, strict=True):
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def is_rotary(module: nn.Module) -> bool:
    """Whether a module keeps frequencies of RoPE."""
    return any(name.endswith(_FREQUENCIES) for name in module._buffers)


def _kinds(module: nn.Module) -> dict[str, str]:
    """Types that scale with the length, by layer type; ``""`` for a module with one type."""
    given = module.__dict__.get("rope_type")
    if not is_rotary(module) or given is None:
        return {}
    by_layer = given if isinstance(given, dict) else {"": given}
    return {str(layer): str(kind) for layer, kind in by_layer.items() if "dynamic" in str(kind) or kind == "longrope"}


def _threshold(module: Any, kind: str, layer: str) -> int:
    if kind == "longrope":
        parameters = getattr(module.config, "rope_parameters", None) or {}
        own = parameters.get(layer, parameters) if layer else parameters
        return int(own.get("original_max_position_embeddings", module.original_max_seq_len))
    return int(module.original_max_seq_len)


def _fresh(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def fresh(*args: Any, **kwargs: Any) -> Any:
        _reset(module)
        return forward(*args, **kwargs)

    return fresh


def _reset(module: Any) -> None:
    for name, value in list(module._buffers.items()):
        if name.endswith(_ORIGINAL) or not name.endswith(_FREQUENCIES):
            continue
        original = getattr(module, name.removesuffix(_FREQUENCIES) + _ORIGINAL, None)
        if isinstance(original, torch.Tensor):
            module._buffers[name] = original.to(value.device)
    for name in list(vars(module)):
        if name.endswith("max_seq_len_cached"):
            setattr(module, name, module.original_max_seq_len)
