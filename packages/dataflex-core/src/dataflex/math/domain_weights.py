"""From weights of the domains to weights of their tokens.

Shapes: K domains.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def token_weights(weights_K: Floats, tokens_K: npt.NDArray[np.int64]) -> Floats:
    """Weights of single tokens, so that their weighted mean is the weighted sum of the domains' means.

    ``sum_i c_d(i) loss_i / N = sum_d w_d * (mean token loss of domain d)`` with ``c_d = w_d N / n_d``. Both are taken
    over a whole optimizer step: cut into micro-batches in any way, the sum stays the same.

    Args:
        weights_K: Of the domains.
        tokens_K: Tokens of each domain in the step, ``n_d``; they sum to ``N``.

    Returns:
        One weight per token of each domain: 1 where ``w_d`` is the domain's share of the tokens, 0 where it has none.
    """
    present = tokens_K > 0
    return np.where(present, weights_K * tokens_K.sum() / np.where(present, tokens_K, 1), 0.0)
