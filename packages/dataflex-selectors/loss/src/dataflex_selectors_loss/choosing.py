"""The choice by losses: the highest, or a draw in which one band of them counts more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.math.bands import in_band
from dataflex.math.topk import gumbel_top_k, top_k, weighted_with_replacement
from dataflex_selectors_loss.params import LossParams

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def choose(losses: Scores, num_samples: int, params: LossParams, rng: np.random.Generator) -> Rows:
    """Places of the losses that are chosen, shape ``[num_samples]``.

    Both choices come ranked; shuffled, every part of the stage sees the same mix.
    """
    if params.mode == "top":
        return rng.permutation(top_k(losses, num_samples))
    log_weights = focus_log_weights(losses, params)
    if params.replacement:
        return weighted_with_replacement(np.exp(log_weights - log_weights.max()), num_samples, rng)
    return rng.permutation(gumbel_top_k(log_weights, num_samples, rng))


def focus_log_weights(losses: Scores, params: LossParams) -> Scores:
    """Log of each sample's weight, shape as ``losses``; -inf for a loss that is not finite.

    Bands lie between the quantiles q1 < q2 of the finite losses: low is ``loss <= q1``, medium ``q1 < loss <= q2``,
    high ``loss > q2``.
    """
    band = in_band(losses, params.quantiles, params.focus)
    log_weights = np.where(band, np.log(params.focus_weight) / params.temperature, 0.0)
    return np.where(np.isfinite(losses), log_weights, -np.inf)
