"""The weighter ``loss``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dataflex import RunContext, Weighter
from dataflex.components.weight_context import StepLosses, WeightContext, WeightedStep
from dataflex.math.window import StepWindow
from dataflex_weighters_loss.params import LossWeighterParams, Statistics
from dataflex_weighters_loss.strategies import loss_weights, window_statistics
from dataflex_weighters_loss.trend import at_last_step


class LossWeighter(Weighter):
    """Weigh samples by their own training loss, compared with other losses on all ranks.

    ``statistics: window`` compares with the latest steps. The statistics move once, at the end of a step, so the
    weights do not depend on micro-batches and ranks. The steps of the warm-up count. The trend of the losses over the
    window is taken out (:mod:`dataflex_weighters_loss.trend`).

    ``statistics: batch`` compares with all samples of the very step, of all ranks and micro-batches.

    Papers: Sow et al. 2025 (arXiv 2502.06733), linupper, quadratic and extremes; Li et al. 2021 (arXiv 2007.01162),
    tilted; Lin et al. 2017 (arXiv 1708.02002), focal.
    """

    params: LossWeighterParams

    def __init__(self, params: LossWeighterParams, context: RunContext) -> None:
        super().__init__(params, context)
        self.window, self.chunk_tokens, self.statistics = params.window, params.chunk_tokens, params.statistics.value
        self.watches_warmup = params.statistics is Statistics.WINDOW
        self._losses = StepWindow(params.window, columns=1)
        self._summarise()

    def weights(self, losses_B: torch.Tensor, context: WeightContext) -> torch.Tensor:
        """Weigh by the chosen strategy against the window, or the step."""
        return loss_weights(losses_B, self._statistics, self.params)

    def on_losses(self, losses: StepLosses) -> None:
        """Compare the samples of the step with its own finite losses."""
        finite = losses.losses[np.isfinite(losses.losses)]
        self._statistics = window_statistics(torch.from_numpy(finite), self.params)

    def on_step(self, stats: WeightedStep) -> None:
        """Add the step's finite losses to the window."""
        if self.params.statistics is Statistics.WINDOW:
            self._losses.add_step(stats.losses[np.isfinite(stats.losses)])
            self._summarise()

    def state_dict(self) -> dict[str, Any]:
        """The window."""
        return self._losses.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._losses.load_state_dict(state)
        self._summarise()

    def _summarise(self) -> None:
        losses = at_last_step(self._losses.values[:, 0], self._losses.lengths)
        self._statistics = window_statistics(torch.from_numpy(losses), self.params)
