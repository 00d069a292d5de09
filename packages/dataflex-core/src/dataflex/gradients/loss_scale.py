"""The loss scale of a run in fp16, as the gradients of single samples need it."""

from __future__ import annotations

from typing import Any

_HEADROOM = 65536.0
"""A run's fp16 loss scale is at the edge for a mean over the tokens of a whole step; here each sample counts whole."""


def loss_scale(accelerator: Any) -> float:
    """What a loss is multiplied by before its backward in fp16; 1 elsewhere.

    Args:
        accelerator: The run's accelerator, or ``None``.
    """
    scaler = getattr(accelerator, "scaler", None)
    if scaler is not None:
        return max(1.0, float(scaler.get_scale()) / _HEADROOM)
    deepspeed = getattr(accelerator, "deepspeed_engine_wrapped", None)
    if deepspeed is not None:  # which scales fp16 losses itself
        return max(1.0, float(getattr(deepspeed.engine.optimizer, "loss_scale", 1.0)) / _HEADROOM)
    return 1.0
