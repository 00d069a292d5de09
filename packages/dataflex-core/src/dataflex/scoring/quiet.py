"""A model that computes the same thing each time, and is afterwards exactly as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from dataflex.scoring.buffers import kept_buffers
from dataflex.scoring.rope import fresh_frequencies

_CHECKPOINTING_LAYER = "GradientCheckpointingLayer"  # of transformers, known by name: this room does without it


@contextlib.contextmanager
def quiet(model: nn.Module, *, keep_checkpointing: bool = False) -> Iterator[None]:
    """Eval mode without calling ``eval()``; afterwards each module's own train flag is back, mixed ones included.

    Flags are set one by one: ``model.eval()`` calls overridden ``train`` methods, and some of those merge weights.
    NEFTune's noise and every dropout go by these flags. Accelerate's mixed-precision wrapper turns the logits of a
    whole batch into fp32; the forward below it is called meanwhile. RoPE begins every pass with the frequencies of a
    model that was just loaded, and buffers are put back.

    Args:
        model: The unwrapped model.
        keep_checkpointing: Transformers switches gradient checkpointing off in eval mode. With this, its checkpointing
            layers keep their train flag where they decide to checkpoint and lose it where they compute. Another module
            that checkpoints stays in train mode; the dropout probabilities of its own and of its configuration are
            zero meanwhile.
    """
    flags = [(module, module.training) for module in model.modules()]
    wrapped, bare = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    probabilities: list[tuple[Any, str, float]] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_buffers(model))
        stack.enter_context(fresh_frequencies(model))
        try:
            for module, training in flags:
                checkpoints = keep_checkpointing and training and bool(getattr(module, "gradient_checkpointing", False))
                if checkpoints and _is_checkpointing_layer(module):
                    stack.enter_context(_computing_in_eval_mode(module))
                elif checkpoints and not any(map(_is_checkpointing_layer, module.modules())):
                    probabilities += _dropouts(module)
                else:
                    module.training = False
            for owner, name, _ in probabilities:
                setattr(owner, name, 0.0)
            if wrapped is not None and bare is not None:
                model.__dict__["forward"] = bare
            yield
        finally:
            if wrapped is not None and bare is not None:
                model.__dict__["forward"] = wrapped
            for owner, name, value in reversed(probabilities):  # of a configuration that several share, the first
                setattr(owner, name, value)
            for module, training in flags:
                module.training = training


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A :func:`quiet` model, without gradient."""
    with quiet(model), torch.no_grad():
        yield


def _is_checkpointing_layer(module: nn.Module) -> bool:
    return any(base.__name__ == _CHECKPOINTING_LAYER for base in type(module).__mro__)


@contextlib.contextmanager
def _computing_in_eval_mode(layer: nn.Module) -> Iterator[None]:
    """The layer's ``__call__`` sees the train flag, by which it checkpoints; its ``forward`` does not.

    A layer may hand ``self.training`` to ``functional.dropout`` with a probability from anywhere: from an attribute,
    from the configuration (Falcon), from a constant. The backward pass calls the same forward again.
    """
    own: Callable[..., Any] | None = layer.__dict__.get("forward")
    forward = layer.forward

    def evaluated(*args: Any, **kwargs: Any) -> Any:
        layer.training = False
        try:
            return forward(*args, **kwargs)
        finally:
            layer.training = True

    layer.__dict__["forward"] = evaluated
    try:
        yield
    finally:
        if own is None:
            layer.__dict__.pop("forward", None)
        else:
            layer.__dict__["forward"] = own


def _dropouts(module: nn.Module) -> list[tuple[Any, str, float]]:
    """Probabilities that a module hands to ``functional.dropout`` itself, from an attribute or its configuration."""
    owners = [owner for owner in (module, getattr(module, "config", None)) if hasattr(owner, "__dict__")]
    return [
        (owner, name, value)
        for owner in owners
        for name, value in vars(owner).items()
        if "drop" in name and isinstance(value, float)
    ]
