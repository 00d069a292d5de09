"""From cosines with several subtasks to one ranking.

Shapes: N rows, S subtasks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.math.aggregation import aggregate, round_robin
from dataflex.math.topk import gumbel_top_k, standardised_log_weights, top_k
from dataflex.math.votes import balanced, vote_scores, z_scores
from dataflex_selectors_less.params import LessParams

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def combine(cosines_NS: Scores, params: LessParams, num_samples: int = 1) -> Scores:
    """One score per row, NaN where any cosine is not finite.

    The mean over subtasks, or the highest; for ``votes``, the votes and the fraction that orders rows of equal votes;
    for ``balanced``, the mean of the standardised cosines.

    Args:
        cosines_NS: Cosines.
        params: ``aggregate`` and, for votes, ``vote_share`` and ``tie_break`` are used.
        num_samples: How many rows are to be chosen: without ``vote_share``, each subtask votes for so many.
    """
    if params.aggregate == "votes":
        return vote_scores(cosines_NS, vote_share(cosines_NS, params, num_samples), params.tie_break)
    if params.aggregate == "balanced":
        return np.asarray(z_scores(cosines_NS).mean(axis=1))
    return aggregate(cosines_NS, params.aggregate)


def vote_share(cosines_NS: Scores, params: LessParams, num_samples: int) -> float:
    """The share of the rows that each subtask votes for: ``vote_share``, else that of the rows to choose."""
    if params.vote_share is not None:
        return params.vote_share
    known = int(np.isfinite(cosines_NS).all(axis=1).sum())
    return min(1.0, num_samples / max(known, 1))


def choose(cosines_NS: Scores, num_samples: int, params: LessParams, rng: np.random.Generator) -> Rows:
    """Choose rows, in random order: ranked, every part of the stage would see another mix.

    Args:
        cosines_NS: At least ``num_samples`` rows of them finite.
        num_samples: How many to choose.
        params: ``aggregate``, ``mode`` and ``temperature`` are used, and what belongs to votes.
        rng: Source of the draws and of the order.
    """
    if params.aggregate == "balanced":
        return rng.permutation(balanced(cosines_NS, num_samples))
    scores_N = combine(cosines_NS, params, num_samples)
    if params.aggregate == "round_robin":
        chosen = round_robin(cosines_NS, num_samples)
    elif params.mode == "sample":
        chosen = gumbel_top_k(standardised_log_weights(scores_N, params.temperature), num_samples, rng)
    elif params.aggregate == "votes" and params.tie_break == "random":
        order = rng.permutation(len(scores_N))
        chosen = order[top_k(scores_N[order], num_samples)]
    else:
        chosen = top_k(scores_N, num_samples)
    return rng.permutation(chosen)
