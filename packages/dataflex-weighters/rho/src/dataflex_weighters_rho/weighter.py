"""The weighter ``rho``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dataflex import RunContext, Weighter
from dataflex.components.weight_context import WeightContext
from dataflex.scoring.reference.samples import sample_means
from dataflex_weighters_rho.excess import RunReference, excess_weights
from dataflex_weighters_rho.params import RhoParams


class RhoWeighter(Weighter):
    """Weigh a sample by its reducible loss: how far its mean loss lies above the reference's, at least 0.

    Source: equation 3 of Mindermann et al. 2022 (arXiv 2206.07137), which selects by it; weighing is ours.

    Raises:
        ConfigError: at construction, when the reference cannot be loaded or has another vocabulary.
    """

    params: RhoParams
    context: RunContext

    def __init__(self, params: RhoParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._reference = RunReference(params, context, "weighter 'rho'")

    def weights(self, losses_B: torch.Tensor, context: WeightContext) -> torch.Tensor:
        """The excess losses; the framework divides them by their mean."""
        reference_B = sample_means(self._reference.losses, context, losses_B)
        context.note((losses_B - reference_B).nan_to_num(0.0, 0.0, 0.0))
        return excess_weights(losses_B, reference_B)

    def state_dict(self) -> dict[str, Any]:
        """Which pool and reference."""
        return self._reference.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare them with this run's."""
        self._reference.load_state_dict(state)
