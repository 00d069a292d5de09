"""Weighters set how strongly each sample counts in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataflex.components.context import logger
from dataflex.components.stateful import Stateful

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Weighter", "logger"]


class Weighter(Stateful):
    """Base class of weighters."""

    def get_weighted_loss(
        self,
        losses: torch.Tensor,
        *,
        ctx: Any = None,
        model: nn.Module | None = None,
        inputs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """Reduce per-sample mean losses, shape ``[batch]``, to the weighted loss, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define get_weighted_loss()")
