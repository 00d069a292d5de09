"""Weights as pure functions of losses and the statistics of a window of earlier losses.

A strategy gives each loss a score; its weight is the score over the mean score of the window. A window of the very
losses that are weighed makes this the softmax of Sow et al. 2025 (arXiv 2502.06733), times the number of losses.

Shapes: B losses to weigh, N losses of the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from dataflex_weighters_loss.params import LossWeighterParams, Strategy

_SAME = 1e-9  # losses this close are equal in fp32
_CUTTING = (Strategy.CVAR, Strategy.TRIM)
_NOTHING = 1e-12  # a mean score this small: the window's losses are all zero to the strategy


@dataclass(frozen=True)
class LossStatistics:
    """What a strategy knows of the window.

    Attributes:
        low: Smallest loss.
        high: Largest loss.
        quantile: The loss at ``params.quantile``, interpolated; NaN for strategies that do not cut there.
        mean_score: Mean of the strategy's scores of the window's losses.
    """

    low: float
    high: float
    quantile: float
    mean_score: float = 1.0


def window_statistics(losses_N: torch.Tensor, params: LossWeighterParams) -> LossStatistics | None:
    """Summarise a window; ``None`` if it is empty."""
    if not len(losses_N):
        return None
    quantile = float(torch.quantile(losses_N, params.quantile)) if params.strategy in _CUTTING else math.nan
    limits = LossStatistics(float(losses_N.min()), float(losses_N.max()), quantile)
    mean = float(_SCORES[params.strategy](losses_N, limits, params).mean())
    return LossStatistics(limits.low, limits.high, limits.quantile, mean)


def loss_weights(losses_B: torch.Tensor, statistics: LossStatistics | None, params: LossWeighterParams) -> torch.Tensor:
    """Weigh losses.

    Args:
        losses_B: Mean loss per target token of each sample.
        statistics: Of the window; ``None`` while there is none.
        params: Strategy and its numbers.

    Returns:
        Weights, shape [B], with mean 1 over the window. All 1 without statistics, and where the window's scores are
        all zero; 1 for a loss that is not finite, which so shows in the training loss as it would without weights.
    """
    if statistics is None or statistics.mean_score < _NOTHING:
        return torch.ones_like(losses_B)
    weights_B = _SCORES[params.strategy](losses_B, statistics, params) / statistics.mean_score
    return torch.where(torch.isfinite(losses_B), weights_B, torch.ones_like(weights_B))


def _spread(losses_B: torch.Tensor, window: LossStatistics, delta: float) -> torch.Tensor:
    """``h``: losses mapped from the window's range to [-delta, delta]; those outside are moved to its ends."""
    width = window.high - window.low
    if width < _SAME:
        return torch.zeros_like(losses_B)
    return (2 * (losses_B - window.low) / width - 1).clamp(-1, 1) * delta


def _uniform(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    return torch.ones_like(losses_B)


def _linupper(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    h_B = _spread(losses_B, window, params.delta)
    return (((h_B + params.delta).clamp(max=params.delta) - params.delta) / params.r).exp()


def _quadratic(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    h_B = _spread(losses_B, window, params.delta)
    return (-(h_B / params.delta).square() / params.r).exp()


def _extremes(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    h_B = _spread(losses_B, window, params.delta)
    return ((h_B.abs() - params.delta) / params.r).exp()


def _tilted(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    # Counted from the end of the window that weighs most: never more than 1, whatever comes.
    heaviest = window.high if params.t > 0 else window.low
    return (params.t * (losses_B - heaviest)).clamp(max=0).exp()


def _cvar(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    return (losses_B >= window.quantile).to(losses_B.dtype)


def _trim(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    return (losses_B <= window.quantile).to(losses_B.dtype)


def _focal(losses_B: torch.Tensor, window: LossStatistics, params: LossWeighterParams) -> torch.Tensor:
    return (-torch.expm1(-losses_B)).clamp(min=0).pow(params.gamma)


_SCORES: Mapping[Strategy, Callable[[torch.Tensor, LossStatistics, LossWeighterParams], torch.Tensor]] = {
    Strategy.UNIFORM: _uniform,
    Strategy.LINUPPER: _linupper,
    Strategy.QUADRATIC: _quadratic,
    Strategy.EXTREMES: _extremes,
    Strategy.TILTED: _tilted,
    Strategy.CVAR: _cvar,
    Strategy.TRIM: _trim,
    Strategy.FOCAL: _focal,
}
"""Every score is at most 1, so that no sharpness overflows; a common factor does not change the weights."""
