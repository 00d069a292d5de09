"""The load-balancing loss of a mixture of experts, which such a model adds only when it is given the labels."""

from __future__ import annotations

from typing import Any

import torch


def with_router_loss(loss: torch.Tensor, outputs: Any, model: Any, accelerator: Any) -> torch.Tensor:
    """Add it to a loss that was computed outside the model.

    Args:
        loss: A scalar.
        outputs: What the model returned; without an ``aux_loss`` nothing is added.
        model: The model, wrapped or not.
        accelerator: Unwraps it; that takes a millisecond, so it is asked only where there is such a loss.
    """
    router_loss = getattr(outputs, "aux_loss", None)
    if not isinstance(router_loss, torch.Tensor):
        return loss
    return loss + float(accelerator.unwrap_model(model).config.router_aux_loss_coef) * router_loss.to(loss.device)
