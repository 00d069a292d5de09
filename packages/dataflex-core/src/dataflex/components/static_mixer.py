"""The mixer of a run with fixed proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex.components.mixer import Mixer

if TYPE_CHECKING:
    from torch import nn


class StaticMixer(Mixer):
    """Keeps the proportions the run began with."""

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> npt.NDArray[np.float64]:
        """The proportions in force."""
        return self.mixture_manager.proportions

    def planned(self, step_id: int) -> npt.NDArray[np.float64]:
        """The same at any step."""
        return self.mixture_manager.proportions
