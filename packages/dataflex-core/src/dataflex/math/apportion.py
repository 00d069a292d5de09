"""Whole shares of a budget, in proportion and below a cap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WHOLE = 1e-9  # a share this close to a whole number is that number: only rounding lies between


def apportion(weights: npt.ArrayLike, caps: npt.ArrayLike, n: int) -> npt.NDArray[np.int64]:
    """Divide ``n`` by weight, nobody above a cap: ``min(cap_i, l w_i)`` with the ``l`` for which they sum to ``n``.

    Shares are rounded down, and what is left goes to the largest remainders, among equals to the lower index.

    Args:
        weights: Finite and not negative, shape [K]; they need not sum to 1. A weight of 0 gets nothing.
        caps: Whole numbers, not negative, shape [K].
        n: What is divided.

    Returns:
        Shares that sum to ``n``, shape [K].

    Raises:
        ValueError: if shapes or numbers do not fit, or the caps of positive weights sum to less than ``n``.
    """
    weights_K, caps_K = np.asarray(weights, np.float64), np.asarray(caps, np.int64)
    if weights_K.ndim != 1 or weights_K.shape != caps_K.shape or (caps_K < 0).any():
        raise ValueError("there must be one weight and one cap, not negative, for each")
    if not np.isfinite(weights_K).all() or (weights_K < 0).any():
        raise ValueError("weights must be finite and not negative")
    room = int(caps_K[weights_K > 0].sum())
    if not 0 <= n <= room:
        raise ValueError(f"cannot divide {n}: the caps of positive weights sum to {room}")
    exact_K = _capped(weights_K, caps_K, n)
    shares_K = np.floor(exact_K + _WHOLE * np.maximum(1.0, exact_K)).astype(np.int64)
    missing = n - int(shares_K.sum())
    order = np.argsort(shares_K - exact_K, kind="stable")
    more = order[(shares_K < caps_K)[order] & (weights_K > 0)[order]][:missing]
    shares_K[more] += 1
    return shares_K


def _capped(weights_K: npt.NDArray[np.float64], caps_K: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float64]:
    """Shares before they are rounded: those that reach their cap first are filled first."""
    exact_K = np.zeros(len(weights_K))
    positive = np.flatnonzero(weights_K > 0)
    order = positive[np.argsort(caps_K[positive] / weights_K[positive], kind="stable")]
    if not len(order):
        return exact_K
    filled = np.cumsum(caps_K[order]) - caps_K[order]  # by those before
    others = np.cumsum(weights_K[order][::-1])[::-1]  # weights from here on
    levels = (n - filled) / others
    below = np.flatnonzero(levels * weights_K[order] <= caps_K[order])
    first = int(below[0]) if len(below) else len(order)
    exact_K[order[:first]] = caps_K[order[:first]]
    if first < len(order):
        exact_K[order[first:]] = levels[first] * weights_K[order[first:]]
    return exact_K
