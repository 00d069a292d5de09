"""A model that computes the same thing each time, and is afterwards exactly as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def quiet(model: nn.Module, *, keep_checkpointing: bool = False) -> Iterator[None]:
    """Eval mode without calling ``eval()``; afterwards each module's own train flag is back, mixed ones included.

    Flags are set one by one: ``model.eval()`` calls overridden ``train`` methods, and some of those merge weights.
    NEFTune's noise and every dropout go by these flags. Accelerate's mixed-precision wrapper turns the logits of a
    whole batch into fp32; the forward below it is called meanwhile.

    Args:
        model: The unwrapped model.
        keep_checkpointing: Transformers switches gradient checkpointing off in eval mode. With this, the modules that
            checkpoint stay in train mode, and their own dropout probabilities are zero meanwhile.
    """
    flags = [(module, module.training) for module in model.modules()]
    wrapped, bare = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    probabilities: list[tuple[nn.Module, str, float]] = []
    try:
        for module, _ in flags:
            if keep_checkpointing and module.training and getattr(module, "gradient_checkpointing", False):
                probabilities += _dropouts(module)
            else:
                module.training = False
        for module, name, _ in probabilities:
            setattr(module, name, 0.0)
        if wrapped is not None and bare is not None:
            model.__dict__["forward"] = bare
        yield
    finally:
        if wrapped is not None and bare is not None:
            model.__dict__["forward"] = wrapped
        for module, name, value in probabilities:
            setattr(module, name, value)
        for module, training in flags:
            module.training = training


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A :func:`quiet` model, without gradient."""
    with quiet(model), torch.no_grad():
        yield


def _dropouts(module: nn.Module) -> list[tuple[nn.Module, str, float]]:
    """Probabilities a module hands to ``functional.dropout`` itself, e.g. ``self.dropout`` of an OPT layer."""
    named = [(name, value) for name, value in vars(module).items() if "drop" in name and isinstance(value, float)]
    return [(module, name, value) for name, value in named]
