"""Losses of a window brought to the level of its last step.

Losses fall while a model trains. A window that looks back on hundreds of samples then lies above every loss there is:
a quantile of it cuts all samples off, or none. So the linear trend over the steps is taken out of the window first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FEWEST = 16
"""A line through fewer losses follows their noise."""


def at_last_step(losses_N: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Move each loss along the window's linear trend to where the last step is.

    The trend is the least-squares line of loss over step number. It does not depend on the order of samples within a
    step.

    Args:
        losses_N: Losses, oldest step first, shape ``[N]``.
        lengths: Samples of each step, in the same order; their sum is N.

    Returns:
        Shape ``[N]``. With one step, or fewer than 16 losses, they are as they were.
    """
    if len(lengths) < 2 or len(losses_N) < _FEWEST:
        return losses_N
    steps_N = np.repeat(np.arange(len(lengths), dtype=np.float64), lengths)
    centred_N = steps_N - steps_N.mean()
    slope = float(centred_N @ losses_N) / float(centred_N @ centred_N)
    return losses_N + slope * (len(lengths) - 1 - steps_N)
