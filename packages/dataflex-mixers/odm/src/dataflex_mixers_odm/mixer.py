"""The mixer ``odm``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dataflex import ConfigError, Mixer
from dataflex.components.mix_context import MixContext, StepStats
from dataflex_mixers_odm.params import OdmParams, Variant
from dataflex_mixers_odm.rules import Floats, follow, paper_proportions, released_proportions

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("dataflex")

FEW_STEPS = 10
"""Boundaries nearer to each other than this are warned of."""


class OdmMixer(Mixer):
    """Online data mixing: rewards follow the losses at every step, proportions follow them at every boundary.

    A step has samples of all domains, so the released rule needs no importance weights. A domain's loss is its mean
    over the whole step: ``exp`` of it is taken once, never of a micro-batch or of a rank.
    Source: Albalak et al. 2023, arXiv 2312.02406, and the code released with it.

    Raises:
        ConfigError: at construction, when the floor of all domains together is more than 1.
    """

    params: OdmParams
    context: MixContext

    def __init__(self, params: OdmParams, context: MixContext) -> None:
        super().__init__(params, context)
        domains = len(context.domain_names)
        if params.floor * domains > 1:
            raise ConfigError(
                f"floor: {params.floor} of mixer 'odm' for {domains} domains adds up to more than 1. Set it to "
                f"{1 / domains:.3g} or less."
            )
        self.rewards: Floats = np.full(domains, np.nan)
        self._last_boundary: int | None = None
        self._warned = False

    def on_step(self, stats: StepStats) -> None:
        """Move the rewards of the domains that the step had."""
        losses = stats.losses.mean()
        if self.params.variant is Variant.PAPER:
            shares = self.context.proportions
            seen = np.isfinite(losses) & (shares > 0)
            estimates = np.where(seen, self.params.reward_scale * losses / np.where(seen, shares, 1), np.nan)
        else:
            estimates = np.where(np.isfinite(losses), np.exp(np.minimum(losses, self.params.most_loss)), np.nan)
        self.rewards = follow(self.rewards, estimates, self.params.smoothing)

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> Floats:
        """The proportions of the step that has been reached; those in force while nothing was seen."""
        self._warn_of_frequent_boundaries(step_id)
        if np.isnan(self.rewards).all():
            return self.context.proportions
        paper = self.params.variant is Variant.PAPER
        shares = (paper_proportions if paper else released_proportions)(self.rewards, step_id)
        floor = self.params.floor
        return floor + (1 - floor * len(shares)) * shares

    def metrics(self) -> dict[str, list[float | None]]:
        """The rewards, for the record; ``None`` for a domain that was never seen."""
        return {"rewards": [None if np.isnan(reward) else reward for reward in self.rewards.tolist()]}

    def state_dict(self) -> dict[str, Any]:
        """The rewards; NaN says that a domain was never seen."""
        return {"rewards": self.rewards}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.rewards = np.array(state["rewards"], np.float64)

    def _warn_of_frequent_boundaries(self, step: int) -> None:
        last, self._last_boundary = self._last_boundary, step
        if last is None or self._warned or not 0 < step - last < FEW_STEPS or self.context.rank:
            return
        self._warned = True
        logger.warning(
            "mixer 'odm' is asked every %d steps. Its rewards move in every step in any case, and each boundary writes "
            "two files and opens the data loader anew: update_step: %d or more costs less.",
            *(step - last, FEW_STEPS),
        )
