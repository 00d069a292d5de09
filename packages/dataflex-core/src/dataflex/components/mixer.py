"""Mixers set how much of each domain comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex.components.context import logger
from dataflex.components.stateful import Stateful

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Mixer", "logger"]


class Mixer(Stateful):
    """Base class of mixers.

    Attributes:
        mixture_manager: The domains of the run; ``mixture_manager.names`` lists them in the order of the proportions.
    """

    def __init__(self, mixture_manager: Any) -> None:
        self.mixture_manager = mixture_manager

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> npt.NDArray[np.float64]:
        """Return the proportions of the next stage: shape ``[domains]``, non-negative, summing to 1."""
        raise NotImplementedError(f"{type(self).__name__} must define mix()")
