"""One pass over the pool: which rows it reads, and what each of them weighs.

Of the n rows whose score is below the mean of all scores, m are kept, at random, and weigh n/m: the sum of any values
over the pass, weighted, then has the whole pool's sum as its expectation. The released code keeps ``int(n (1 - r))``
of them with weight ``1 / (1 - r)``, which has not.

Paper: Qin et al. 2024, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", arXiv 2303.04947.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


_ROUNDING = 1e-12


@dataclass(frozen=True)
class Pass:
    """A pass over the pool.

    Attributes:
        rows: The rows it reads, in order; shape ``[K]``.
        weights: Their weights, shape ``[K]``.
        below: Rows below the mean, of which some are left out: n.
        kept: Of these, the ones that it reads: m.
        mean: What they are below; NaN where nothing was compared.
    """

    rows: Rows
    weights: Scores
    below: int = 0
    kept: int = 0
    mean: float = math.nan


def number_kept(below: int, ratio: float) -> int:
    """How many of ``below`` rows a pass keeps: m, at least 1 of any."""
    return max(1, math.floor(below * (1 - ratio) + 0.5)) if below else 0


def whole_pass(pool_size: int, rng: np.random.Generator) -> Pass:
    """A pass that reads every row, in random order, with weight 1."""
    return Pass(rng.permutation(pool_size).astype(np.int64), np.ones(pool_size))


def pruned_pass(scores: Scores, ratio: float, rng: np.random.Generator) -> Pass:
    """A pass that leaves out part of the rows of low score, in random order.

    Args:
        scores: Of every row, shape ``[N]``; one that is not finite has none, and its row is read.
        ratio: Part of the rows below the mean that is left out.
        rng: Source of the draw and of the order.
    """
    finite = np.isfinite(scores)
    mean = float(scores[finite].mean()) if finite.any() else math.nan
    low = np.flatnonzero(finite & (scores < mean - _ROUNDING * abs(mean)))  # of equal scores none is below
    kept = number_kept(len(low), ratio)
    if not kept:
        return whole_pass(len(scores), rng)
    weights = np.ones(len(scores))
    weights[low] = 0
    weights[rng.choice(low, size=kept, replace=False)] = len(low) / kept
    rows = rng.permutation(np.flatnonzero(weights)).astype(np.int64)
    return Pass(rows, weights[rows], below=len(low), kept=kept, mean=mean)
