"""The two passes over token ids: counts of buckets, then scores of rows. Each rank reads a share of the rows.

Shapes: N rows, T tokens of a block, D buckets; the two halves of the rows stand beside each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.data.token_blocks import TokenBlock, token_blocks
from dataflex.distributed import all_gather, together
from dataflex_selectors_lexical.features import bucketed, sums_of_rows
from dataflex_selectors_lexical.params import LexicalParams

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def count(dataset: Any, half_N: Counts, params: LexicalParams, accelerator: Any) -> tuple[Counts, int]:
    """Count the buckets of all rows, each half by itself. All ranks call it.

    Args:
        dataset: Pool or eval set.
        half_N: 0 or 1 by row.
        params: ``ngrams``, ``buckets`` and ``part`` are used.
        accelerator: The run's.

    Returns:
        Counts, shape [2, D], and the number of tokens read, padding included; the same on every rank.
    """
    width = params.buckets + 1  # the last one is for n-grams that are none
    counts, tokens = np.zeros(2 * width, np.int64), 0
    with together("counting n-grams", accelerator):
        for block in token_blocks(dataset, *_share(len(half_N), accelerator), part=params.part):
            tokens += len(block.ids)
            offsets_T = _offsets(block, half_N, width)
            for buckets_T in bucketed(block, params.ngrams, params.buckets):
                counts += np.bincount(buckets_T + offsets_T, minlength=2 * width)
    parts = all_gather((counts, tokens), accelerator)
    summed = np.sum([theirs for theirs, _ in parts], axis=0).reshape(2, width)[:, :-1]
    return summed, sum(theirs for _, theirs in parts)


def score(
    dataset: Any,
    half_N: Counts,
    weights_SD: Floats,
    crossed_S2D: Floats,
    params: LexicalParams,
    accelerator: Any,
) -> tuple[Floats, Floats]:
    """Score all rows. All ranks call it.

    Args:
        dataset: Pool or eval set.
        half_N: 0 or 1 by row.
        weights_SD: Weights of the buckets by target.
        crossed_S2D: For each half, weights to score its rows with besides: those of the other half.
        params: ``ngrams``, ``buckets``, ``part`` and ``normalise`` are used.
        accelerator: The run's.

    Returns:
        Scores by target [N, S], those by the crossed weights [N, S]; NaN for a row without n-grams. The same on every
        rank: a row is scored by one of them, alone, whatever lies beside it.
    """
    start, stop = _share(len(half_N), accelerator)
    tables = [_with_none(weights_D) for weights_D in weights_SD]
    crossed = [_with_none(weights_2D).reshape(-1) for weights_2D in crossed_S2D]
    mine = np.full((stop - start, len(tables) + len(crossed)), np.nan)
    with together("scoring n-grams", accelerator):
        for block in token_blocks(dataset, start, stop, part=params.part):
            scored_R = _score_block(block, half_N, tables, crossed, params)
            mine[block.start - start : block.stop - start] = scored_R
    scores = np.concatenate(all_gather(mine, accelerator))
    return scores[:, : len(tables)], scores[:, len(tables) :]


def _score_block(
    block: TokenBlock, half_N: Counts, tables: list[Floats], crossed: list[Floats], params: LexicalParams
) -> Floats:
    size = len(block.ids)
    sums_T = [np.zeros(size) for _ in [*tables, *crossed]]
    seen_T, room_T = np.zeros(size, np.int64), np.empty(size)
    offsets_T = _offsets(block, half_N, params.buckets + 1)
    for buckets_T in bucketed(block, params.ngrams, params.buckets):
        seen_T += buckets_T < params.buckets
        for number, table in enumerate(tables):
            sums_T[number] += np.take(table, buckets_T, out=room_T, mode="clip")
        if crossed:
            places_T = buckets_T + offsets_T
            for number, table in enumerate(crossed, start=len(tables)):
                sums_T[number] += np.take(table, places_T, out=room_T, mode="clip")
    seen_R = sums_of_rows(seen_T.astype(np.float64), block.lengths)
    scored = np.stack([sums_of_rows(each_T, block.lengths) for each_T in sums_T], axis=1)
    if params.normalise:
        scored /= np.maximum(seen_R, 1)[:, None]
    scored[seen_R == 0] = np.nan
    return scored


def _share(rows: int, accelerator: Any) -> tuple[int, int]:
    """The rows of this rank: a stretch, so that they are read in the order in which they lie."""
    rank, ranks = (0, 1) if accelerator is None else (int(accelerator.process_index), int(accelerator.num_processes))
    return rows * rank // ranks, rows * (rank + 1) // ranks


def _offsets(block: TokenBlock, half_N: Counts, width: int) -> Counts:
    return np.repeat(half_N[block.start : block.stop] * width, block.lengths)


def _with_none(weights: Floats) -> Floats:
    """With a weight of 0 for the bucket of n-grams that are none, behind the others."""
    return np.concatenate([weights, np.zeros((*weights.shape[:-1], 1))], axis=-1)
