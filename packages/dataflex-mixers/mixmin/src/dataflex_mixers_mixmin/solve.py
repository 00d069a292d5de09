"""The mixture of models that gives a target the highest probability (MixMin, Thudi et al. 2025, arXiv 2502.10510).

``f(w) = - sum_x q_x log sum_i w_i p_i(x)`` is convex in w. By sample, x is a text and ``q_x`` is 1 over its tokens and
over the number of texts; by token, x is a token after what stands before it, and ``q_x`` the same share of its text.

Shapes: X texts or tokens, K domains.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.math.simplex import lowest

Floats = npt.NDArray[np.float64]


def target_loss(shares_K: Floats, logs_XK: Floats, weights_X: Floats) -> tuple[float, Floats]:
    """The target's loss under a mixture of models, and its gradient.

    Args:
        shares_K: The mixture.
        logs_XK: Log-probability of each text or token under each domain's model.
        weights_X: ``q``.

    Returns:
        The loss in nats a token; its gradient, [K].
    """
    highest_X = logs_XK.max(axis=1)
    scaled_XK = np.exp(logs_XK - highest_X[:, None])  # long texts have probabilities that no float holds
    mixed_X = np.maximum(scaled_XK @ shares_K, np.finfo(np.float64).tiny)
    loss = -float(weights_X @ (np.log(mixed_X) + highest_X))
    gradient_K: Floats = -(weights_X / mixed_X) @ scaled_XK
    return loss, gradient_K


def solve(logs_XK: Floats, weights_X: Floats) -> tuple[Floats, float]:
    """The best mixture and its loss.

    Args:
        logs_XK: As for :func:`target_loss`.
        weights_X: Likewise.

    Raises:
        ValueError: for a log-probability that is not finite.
    """
    if not np.isfinite(logs_XK).all():
        raise ValueError("a log-probability is not finite")
    domains = logs_XK.shape[1]
    return lowest(lambda shares: target_loss(shares, logs_XK, weights_X), np.full(domains, 1 / domains))


def sample_weights(lengths_X: npt.NDArray[np.int64]) -> Floats:
    """``q`` of whole texts of so many tokens."""
    weights: Floats = 1 / (lengths_X * len(lengths_X))
    return weights


def best_shares(logs_XK: Floats, weights_X: Floats) -> Floats:
    """The weight of the texts or tokens for which each model is best: what the mixture tends to for long texts."""
    best = np.bincount(logs_XK.argmax(axis=1), weights_X, minlength=logs_XK.shape[1])
    shares: Floats = best / weights_X.sum()
    return shares
