"""The mixer ``loss``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ConfigError, Mixer
from dataflex.components.mix_context import MixContext
from dataflex_mixers_loss.params import LossParams

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float64]


class LossMixer(Mixer):
    """Proportions as a softmax of the domains' mean token losses since the last boundary.

    The losses are those of the training steps, so nothing is computed for them but a second cross entropy.

    Raises:
        ConfigError: at construction, when the floor of all domains together is more than 1.
    """

    params: LossParams
    context: MixContext

    def __init__(self, params: LossParams, context: MixContext) -> None:
        super().__init__(params, context)
        domains = len(context.domain_names)
        if params.floor * domains > 1:
            raise ConfigError(
                f"floor: {params.floor} of mixer 'loss' for {domains} domains adds up to more than 1. Set it to "
                f"{1 / domains:.3g} or less."
            )
        self._losses: Floats = np.full(domains, np.nan)

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> Floats:
        """More of what was hard in the stage before; the proportions in force while no loss is known."""
        self._losses = smooth(self._losses, self.context.losses.mean(), self.params.ema)
        if np.isnan(self._losses).all():
            return self.context.proportions
        return softmax_proportions(self._losses, self.params.temperature, self.params.floor)

    def metrics(self) -> dict[str, list[float | None]]:
        """The losses compared, for the record."""
        return {"compared_losses": [None if np.isnan(loss) else loss for loss in self._losses.tolist()]}

    def state_dict(self) -> dict[str, Any]:
        """The losses compared at the last boundary."""
        return {"losses": self._losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._losses = np.array(state["losses"], np.float64)


def smooth(before: Floats, now: Floats, ema: float) -> Floats:
    """Blend losses with earlier ones; a domain that has only one of the two keeps that one.

    Args:
        before: Smoothed losses so far, NaN where there are none; shape ``[domains]``.
        now: New losses, NaN where no token was seen; shape ``[domains]``.
        ema: Share of the earlier ones.
    """
    blended = ema * before + (1 - ema) * now
    return np.where(np.isnan(now), before, np.where(np.isnan(before), now, blended))


def softmax_proportions(losses: Floats, temperature: float, floor: float) -> Floats:
    """``floor + (1 - K * floor) * softmax(losses / temperature)`` over K domains.

    Args:
        losses: Mean token losses; shape ``[K]``. NaN, a domain that was never seen, counts as the mean of the others.
        temperature: In nats, above 0.
        floor: Least proportion of a domain, at most 1 / K.
    """
    known = np.where(np.isnan(losses), np.nanmean(losses), losses)
    weights = np.exp((known - known.max()) / temperature)
    shares: Floats = floor + (1 - len(losses) * floor) * weights / weights.sum()
    shares /= shares.sum()
    return shares
