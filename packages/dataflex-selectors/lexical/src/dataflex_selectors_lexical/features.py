"""Hashed n-grams of token ids.

Shapes: T tokens of a block, R rows, D buckets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dataflex.data.token_blocks import TokenBlock
from dataflex.math.hashing import GOLDEN, splitmix64_

Whole = npt.NDArray[np.int64]


def bucketed(block: TokenBlock, ngrams: int, buckets: int) -> Iterator[Whole]:
    """The bucket of the n-gram that begins at each token, for n = 1, 2, ...; all share the buckets.

    A bucket is SplitMix64 of (n, ids) modulo D: the same on every machine. n-grams cross neither rows nor samples of a
    packed row, nor a token that does not count.

    Args:
        block: Tokens.
        ngrams: Largest n.
        buckets: D.

    Yields:
        Shape [T], from 0 to D; D where no n-gram of this length begins. Overwritten by the next one.
    """
    size = len(block.ids)
    ids = block.ids.astype(np.uint64)
    keys, hashed, spare = ids.copy(), np.empty_like(ids), np.empty_like(ids)
    missing = None if block.kept is None else ~block.kept
    none = np.zeros(size, bool) if missing is None else missing.copy()
    for n in range(1, ngrams + 1):
        if n > 1:
            if size < n:
                return
            # Two pairs of ids below 2**31 never get the same key: multiples of the golden ratio keep apart.
            head = keys[: size - n + 1]
            np.multiply(head, np.uint64(GOLDEN), out=head)
            np.add(head, ids[n - 1 :], out=head)
            none[: size - n + 1] |= block.begins[n - 1 :]
            if missing is not None:
                none[: size - n + 1] |= missing[n - 1 :]
            none[size - n + 1 :] = True
        hashed[:] = keys
        splitmix64_(hashed, n, spare)
        np.floor_divide(hashed, np.uint64(buckets), out=spare)  # a division by one number is vectorised, % is not
        np.multiply(spare, np.uint64(buckets), out=spare)
        np.subtract(hashed, spare, out=hashed)
        if n > 1 or missing is not None:
            hashed[none] = buckets
        yield hashed.view(np.int64)


def sums_of_rows(values_T: npt.NDArray[np.float64], lengths_R: Whole) -> npt.NDArray[np.float64]:
    """Sums over each row's tokens, shape [R]; 0 for a row without tokens."""
    sums_R = np.zeros(len(lengths_R))
    full = lengths_R > 0
    if full.any():
        sums_R[full] = np.add.reduceat(values_T, (np.cumsum(lengths_R) - lengths_R)[full])
    return sums_R
