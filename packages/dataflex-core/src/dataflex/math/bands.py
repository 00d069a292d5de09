"""Bands of values between two quantiles of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Band = Literal["low", "medium", "high"]


def in_band(values: npt.ArrayLike, quantiles: Sequence[float], band: Band) -> npt.NDArray[np.bool_]:
    """Which values lie in a band; none that is not finite.

    With the quantiles q1 < q2 of the finite values, low is ``value <= q1``, medium ``q1 < value <= q2``, high
    ``value > q2``. Any increasing function of the values has the same bands, but for values between two neighbours.

    Args:
        values: Shape ``[N]``, at least one finite.
        quantiles: Where the low band ends and where the high one begins, as parts of 1.
        band: Which.
    """
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    low, high = np.quantile(numbers[finite], tuple(quantiles))
    inside = {"low": numbers <= low, "medium": (numbers > low) & (numbers <= high), "high": numbers > high}[band]
    return np.asarray(inside & finite, np.bool_)
