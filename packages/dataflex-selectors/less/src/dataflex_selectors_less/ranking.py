"""From cosines with several subtasks to one ranking.

Shapes: N rows, S subtasks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.math.aggregation import aggregate, round_robin
from dataflex.math.topk import gumbel_top_k, top_k
from dataflex_selectors_less.params import LessParams

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def combine(cosines_NS: Scores, params: LessParams) -> Scores:
    """One score per row: the mean over subtasks, or else the highest; NaN where any is not finite."""
    return aggregate(cosines_NS, params.aggregate)


def choose(cosines_NS: Scores, num_samples: int, params: LessParams, rng: np.random.Generator) -> Rows:
    """Choose rows, in random order: ranked, every part of the stage would see another mix.

    Args:
        cosines_NS: At least ``num_samples`` rows of them finite.
        num_samples: How many to choose.
        params: ``aggregate``, ``mode`` and ``temperature`` are used.
        rng: Source of the draws and of the order.
    """
    scores_N = combine(cosines_NS, params)
    if params.aggregate == "round_robin":
        chosen = round_robin(cosines_NS, num_samples)
    elif params.mode == "sample":
        chosen = gumbel_top_k(_log_weights(scores_N, params.temperature), num_samples, rng)
    else:
        chosen = top_k(scores_N, num_samples)
    return rng.permutation(chosen)


def _log_weights(scores_N: Scores, temperature: float) -> Scores:
    finite = np.isfinite(scores_N)
    spread = float(scores_N[finite].std())
    centred = scores_N - scores_N[finite].mean()
    return np.where(finite, centred / spread / temperature if spread > 0 else 0.0, -np.inf)
