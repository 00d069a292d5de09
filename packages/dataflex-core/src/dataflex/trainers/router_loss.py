"""The load-balancing loss of a mixture of experts, which such a model adds only when it is given the labels."""

from __future__ import annotations

from typing import Any

import torch


def with_router_loss(loss: torch.Tensor, outputs: Any, model: Any) -> torch.Tensor:
    """Add it to a loss that was computed outside the model.

    Args:
        loss: A scalar.
        outputs: What the model returned; without an ``aux_loss`` nothing is added.
        model: The unwrapped model.
    """
    router_loss = getattr(outputs, "aux_loss", None)
    if not isinstance(router_loss, torch.Tensor):
        return loss
    return loss + float(model.config.router_aux_loss_coef) * router_loss.to(loss.device)
