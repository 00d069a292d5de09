"""Scores of a pool against the eval sets, and how well words tell the one from the others.

Shapes: N rows of the pool, S targets, V rows of one, D buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, RunContext
from dataflex.components.passes import Subtask
from dataflex.distributed import rank0_decides
from dataflex_selectors_lexical.counting import count, score
from dataflex_selectors_lexical.params import LexicalParams
from dataflex_selectors_lexical.weights import LEAST_ROWS, auc, halves, log_ratios

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

REASONS = {
    "all": "no token that is not padding",
    "prompt": "no token without a label, which is what part: prompt counts",
    "answer": "no token with a label, which is what part: answer counts",
}
"""Why a row has no n-gram, by ``part``."""


@dataclass(frozen=True, eq=False)
class Found:
    """What two passes over the token ids found.

    Attributes:
        scores: [N, S]; NaN for a row without n-grams.
        separations: Of each target: AUC of its rows against those of the pool, by weights that have seen neither;
            NaN where there are too few rows.
        target_rows: Rows of each target.
        tokens: Tokens of the pool, padding included.
    """

    scores: Floats
    separations: tuple[float, ...]
    target_rows: tuple[int, ...]
    tokens: int


def score_pool(context: RunContext, targets: Sequence[Subtask], params: LexicalParams) -> Found:
    """Count, weigh and score. All ranks call it; what comes out is the same on each.

    Raises:
        ComponentError: when a row cannot be read, or a target or the pool has no n-gram.
    """
    rng, accelerator = context.rng(0, "halves"), context.accelerator
    pool_half_N = halves(len(context.dataset), rng)
    target_halves = [halves(len(target.rows), rng) for target in targets]
    pool_2D, tokens = count(context.dataset, pool_half_N, params, accelerator)
    if not pool_2D.any():
        raise ComponentError(f"no row of the pool can be scored: each has {REASONS[params.part]}.")
    counts_S2D = []
    for target, half_V in zip(targets, target_halves, strict=True):
        target_2D, _ = count(target.dataset, half_V, params, accelerator)
        if not target_2D.any():
            raise ComponentError(
                f"no row of the eval set {target.name!r} has anything to aim at: each of its {len(target.rows)} rows "
                f"has {REASONS[params.part]}."
            )
        counts_S2D.append(target_2D)
    weights_SD, crossed_S2D = _weights(counts_S2D, pool_2D, params)
    weights_SD = np.asarray(rank0_decides(weights_SD, accelerator))
    crossed_S2D = np.asarray(rank0_decides(crossed_S2D, accelerator))
    scores_NS, crossed_NS = score(context.dataset, pool_half_N, weights_SD, crossed_S2D, params, accelerator)
    separations = []
    for number, (target, half_V) in enumerate(zip(targets, target_halves, strict=True)):
        only = crossed_S2D[number : number + 1]
        _, crossed_V1 = score(target.dataset, half_V, weights_SD[:0], only, params, accelerator)
        separations.append(separation(crossed_V1[:, 0], half_V, crossed_NS[:, number], pool_half_N))
    rows = tuple(len(target.rows) for target in targets)
    return Found(scores_NS, tuple(separations), rows, tokens)


def separation(target_V: Floats, target_half_V: Counts, pool_N: Floats, pool_half_N: Counts) -> float:
    """Mean of the two halves' AUC, each scored by weights of the other half alone.

    Returns:
        NaN for fewer than :data:`LEAST_ROWS` target rows with a score, or a half without rows.
    """
    if np.isfinite(target_V).sum() < LEAST_ROWS:
        return float("nan")
    return float(np.mean([auc(target_V[target_half_V == half], pool_N[pool_half_N == half]) for half in (0, 1)]))


def _weights(counts_S2D: Sequence[Counts], pool_2D: Counts, params: LexicalParams) -> tuple[Floats, Floats]:
    """Weights of all rows by target, and for each half those of the other one."""
    fitted = [
        log_ratios(target_2D.sum(axis=0), pool_2D.sum(axis=0), params.smoothing, params.smooths)
        for target_2D in counts_S2D
    ]
    crossed = [
        [_of_half(target_2D[1 - half], pool_2D[1 - half], params) for half in (0, 1)] for target_2D in counts_S2D
    ]
    return np.stack(fitted), np.array(crossed)


def _of_half(target_D: Counts, pool_D: Counts, params: LexicalParams) -> Floats:
    if not target_D.any() or not pool_D.any():  # of a few rows, one half may have no n-gram
        return np.zeros(len(pool_D))
    return log_ratios(target_D, pool_D, params.smoothing, params.smooths)
