"""The mixer ``ado``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dataflex import ConfigError, Mixer
from dataflex.components.mix_context import MixContext, StepStats
from dataflex.distributed import rank0_decides
from dataflex_mixers_ado.blocks import Blocks
from dataflex_mixers_ado.laws import Floats, aim, fit, speeds
from dataflex_mixers_ado.params import AdoParams, Prior

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("dataflex")


class AdoMixer(Mixer):
    """Adaptive data optimization: follows how fast each domain is learned now, by a power law of its training losses.

    Laws are fitted on rank 0 and sent to all. Before the first fit, the first proportions hold.
    Source: Jiang et al. 2024, arXiv 2410.11820, and the latest state of the code released with it.

    Raises:
        ConfigError: at construction, for ``prior: tokens`` where the rows have not been measured.

    Attributes:
        laws: ``(b, e, a)`` of each domain, NaN without one; shape ``[K, 3]``.
        recent: Recent shares of the samples of the steps, a moving average.
        average: Mean of all aims so far.
    """

    params: AdoParams
    context: MixContext

    def __init__(self, params: AdoParams, context: MixContext) -> None:
        super().__init__(params, context)
        domains = len(context.domain_names)
        first = context.proportions.copy()
        self._prior = first if params.prior is Prior.PROPORTIONS else _token_shares(context)
        self._blocks = Blocks(domains, params.block_steps, params.ignore_steps)
        self._proportions, self.recent, self.average = first, first, first
        self.laws: Floats = np.full((domains, 3), np.nan)

    def on_step(self, stats: StepStats) -> None:
        """Move recent shares, average and proportions by a step; fit the laws where it is time to."""
        counts = stats.losses.samples
        if counts.sum() > 0:
            smoothing = self.params.smoothing
            self.recent = (1 - smoothing) * self.recent + smoothing * counts / counts.sum()
        self._blocks.add(stats.losses.mean(), stats.step)
        past = self._blocks.steps - self.params.first_fit
        if past >= 0 and past % self.params.refit_steps == 0:
            self.laws = rank0_decides(self._fit() if self.context.rank == 0 else self.laws, self.context.accelerator)
        target = self._aim(stats.step)
        self._proportions = _sums_to_one(self.params.blend * target + (1 - self.params.blend) * self.average)
        self.average = _sums_to_one(self.average + (target - self.average) / (stats.step + 1))

    def mix(self, model: nn.Module, step_id: int, **kwargs: Any) -> Floats:
        """Blend of the present aim and the mean of all aims so far. The model is not used."""
        return self._proportions

    def metrics(self) -> dict[str, list[float | None]]:
        """Recent shares; floor and exponent of each domain's law; how fast domains are learned, as shares."""
        _, floors, exponents = self.laws.T
        now = speeds(self.laws, self._samples(max(1, self.context.step)))
        return {
            "recent_shares": self.recent.tolist(),
            "loss_floors": _known(floors),
            "loss_exponents": _known(exponents),
            "learning_speeds": _known(now / now.sum() if now.sum() > 0 else now),
        }

    def finished(self, step_id: int) -> None:
        """Say so if the run ended before a law was fitted: it was then a static mixture."""
        if self.context.rank == 0 and np.isnan(self.laws).all():
            logger.warning(
                "mixer 'ado' ended at step %d without a law of any domain, so the proportions never moved: first_fit "
                "is %d steps past the warm-up.",
                *(step_id, self.params.first_fit),
            )

    def state_dict(self) -> dict[str, Any]:
        """Shares, laws, and the block means that the next fit is made of."""
        return {
            "prior": self._prior,
            "proportions": self._proportions,
            "recent": self.recent,
            "average": self.average,
            "laws": self.laws,
            **self._blocks.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._prior, self._proportions, self.recent, self.average, self.laws = (
            np.array(state[name], np.float64) for name in ("prior", "proportions", "recent", "average", "laws")
        )
        self._blocks.load_state_dict(state)

    def _fit(self) -> Floats:
        """New laws; a domain with too few blocks keeps the one it has."""
        steps, losses = self._blocks.points()
        found = [fit(self._samples(steps), losses[:, k]) for k in range(len(self.laws))]
        return np.array([old if new is None else new for old, new in zip(self.laws, found, strict=True)])

    def _aim(self, step: int) -> Floats:
        now = speeds(self.laws, self._samples(step))
        if np.isnan(now).any():  # no law yet
            return self.average
        return aim(self._prior, self.recent, now, credit=self.params.credit, least=self.params.least)

    def _samples(self, steps: Any) -> Any:
        return steps * float(self.context.global_batch)


def _token_shares(context: MixContext) -> Floats:
    tokens = context.domain_tokens
    if tokens is None or not tokens.sum():
        raise ConfigError("prior: tokens of mixer 'ado' needs rows whose tokens are known. Use prior: proportions.")
    shares: Floats = tokens / tokens.sum()
    return shares


def _sums_to_one(shares: Floats) -> Floats:
    whole: Floats = shares / shares.sum()
    return whole


def _known(values: Floats) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
