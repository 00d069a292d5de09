"""From cosines with several subtasks to one ranking.

Shapes: N rows, S subtasks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.math.topk import gumbel_top_k, top_k
from dataflex_selectors_less.params import LessParams

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def combine(cosines_NS: Scores, params: LessParams) -> Scores:
    """One score per row: the mean over subtasks, or else the highest; NaN where any is not finite."""
    finite = np.isfinite(cosines_NS).all(axis=1)
    scores_N = cosines_NS.mean(axis=1) if params.aggregate == "mean" else cosines_NS.max(axis=1)
    return np.where(finite, scores_N, np.nan)


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
        chosen = _round_robin(np.where(np.isfinite(scores_N)[:, None], cosines_NS, np.nan), num_samples)
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


def _round_robin(cosines_NS: Scores, num_samples: int) -> Rows:
    """Each subtask's best row that no other has taken yet, in turn."""
    orders = [iter(top_k(cosines_N, len(cosines_N)).tolist()) for cosines_N in cosines_NS.T]
    taken: dict[int, None] = {}
    while len(taken) < num_samples:
        for order in orders:
            row = next((row for row in order if row not in taken), None)
            if row is not None and len(taken) < num_samples:
                taken[row] = None
    return np.asarray(list(taken), dtype=np.int64)
