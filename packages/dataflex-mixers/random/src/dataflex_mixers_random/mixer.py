"""The mixer ``random``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Mixer
from dataflex.components.mix_context import MixContext
from dataflex_mixers_random.params import RandomParams

if TYPE_CHECKING:
    from torch import nn


class RandomMixer(Mixer):
    """Draw the proportions from a symmetric Dirichlet distribution, anew at each boundary."""

    params: RandomParams
    context: MixContext

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> npt.NDArray[np.float64]:
        """Draw one proportion per domain; a function of (seed, step, domain names) alone. The model is not used."""
        return dirichlet(self.context, step_id, self.params.concentration)


def dirichlet(context: MixContext, step: int, concentration: float) -> npt.NDArray[np.float64]:
    """One draw from a symmetric Dirichlet distribution: normalised Gamma variates, one per domain.

    Each domain draws from a generator of its own, keyed by (seed, step, name). So listing the domains in another order
    gives the same proportions in that order.

    Args:
        context: The run.
        step: Optimizer step of the boundary.
        concentration: Of every domain, above 0.

    Returns:
        Proportions, shape ``[domains]``.
    """
    # Gamma(a) = Gamma(a + 1) * U^(1/a), in logs: a small concentration would underflow to 0 in every domain.
    logs = np.empty(len(context.domain_names))
    for place, name in enumerate(context.domain_names):
        rng = context.domain_rng(step, name)
        logs[place] = np.log(rng.standard_gamma(concentration + 1)) + np.log1p(-rng.random()) / concentration
    weights = np.exp(logs - logs.max())
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares
