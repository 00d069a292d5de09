"""The weighted loss of an optimizer step, which is the Trainer's own loss when all weights are equal.

``L_micro = sum_i (w_i / c) S_i / N``: S_i is the summed loss of sample i, N the target tokens of the whole step and c
the token-weighted mean weight of the steps before. Nothing is normalised inside a micro-batch: one of a single sample
would always weigh 1, and 4 x 2 samples would train differently from 8.

Shapes: U samples (units) of a micro-batch, N samples of a window or a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Samples = npt.NDArray[np.float64]

HISTOGRAM_EDGES = np.exp2(np.arange(-24, 25) / 4)
"""Edges of the bins of :func:`weight_histogram`: 48 quarter octaves from 1/64 to 64."""


def weighted_loss(
    sums_U: torch.Tensor, weights_U: torch.Tensor, normaliser: float, target_tokens: torch.Tensor | float
) -> torch.Tensor:
    """One micro-batch's part of the step's weighted loss.

    Args:
        sums_U: Summed token losses of each sample, with gradient.
        weights_U: Their weights, without.
        normaliser: ``c`` of this step, from :func:`token_mean_weight`.
        target_tokens: ``N``: target tokens of the step, as the Trainer counts them.

    Returns:
        A scalar; a sample of weight 0 gets no gradient.
    """
    return (weights_U.detach().to(sums_U.dtype) / normaliser * sums_U).sum() / target_tokens


def token_mean_weight(weights_N: npt.NDArray[np.float64], tokens_N: npt.NDArray[np.float64]) -> float:
    """The normaliser ``c``: mean weight over target tokens; 1 if there are none or all weights are 0."""
    tokens = float(tokens_N.sum())
    mean = float(weights_N @ tokens_N) / tokens if tokens else 1.0
    return mean if mean > 0 else 1.0


def domain_normalisers(windows: Sequence[Samples], *, least: int) -> npt.NDArray[np.float64]:
    """The normaliser of each domain: the mean weight over the target tokens of its own latest samples.

    One normaliser for all domains would let weights undo a mixture: of two domains with equal shares, the one whose
    samples weigh less would get less of the gradient than it was to have.

    Args:
        windows: Weights and target tokens of the latest samples of each domain, shape [n, 2].
        least: Samples that a domain must have shown; before, the mean over all windows stands in.

    Returns:
        ``c_d``, shape [domains].
    """
    everywhere = token_mean_weight(*np.concatenate(windows).T)
    return np.array([token_mean_weight(*own.T) if len(own) >= least else everywhere for own in windows])


def weight_histogram(weights_N: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Weights in bins between :data:`HISTOGRAM_EDGES`; zeros and what lies outside count in the outermost ones."""
    inside = np.clip(weights_N, HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    return np.histogram(inside, HISTOGRAM_EDGES)[0].astype(np.int64)


def effective_samples(weights_N: npt.NDArray[np.float64]) -> float:
    """Kish's effective sample size ``(sum w)^2 / sum w^2``: N for equal weights, 1 if one has all the weight."""
    squares = float(weights_N @ weights_N)
    return float(weights_N.sum()) ** 2 / squares if squares else 0.0
