"""From embeddings to the probability of each row of the pool.

Shapes: n rows of the pool, M queries, K neighbours of a query, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError
from dataflex.math.neighbours import distances, neighbours
from dataflex_selectors_tsds.density import densities
from dataflex_selectors_tsds.params import TsdsParams
from dataflex_selectors_tsds.transport import probabilities, transport

Values = npt.NDArray[np.float64]

FIRST = 64
"""Neighbours of a query to begin with."""

MOST = 2**25
"""Neighbours of all queries together, at most: 2 GB of distances, rows and what is worked out from them."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Probabilities and what is recorded of them.

    Attributes:
        p: Of each row, shape [n]; 0 for a row without an embedding. Sums to 1.
        stop: See :class:`~dataflex_selectors_tsds.transport.Transport`.
        neighbours: K.
        mean_density: Over the rows with a probability.
    """

    p: Values
    stop: float
    neighbours: int
    mean_density: float


def solve(
    queries: npt.NDArray[Any],
    pool: npt.NDArray[Any],
    params: TsdsParams,
    rng_of: Callable[[], np.random.Generator],
    *,
    device: Any = None,
    first: int = FIRST,
) -> Solution:
    """Look up neighbours, count copies and solve; with twice the neighbours wherever too few of them ended the search.

    Args:
        queries: Unit rows, all finite, shape [M, d].
        pool: Unit rows, shape [n, d]; NaN for a row without an embedding, not all.
        params: ``alpha``, ``C``, ``sigma`` and ``density_rows`` are used.
        rng_of: Gives, each time anew, the generator that draws the rows that density is estimated on.
        device: Where to multiply.
        first: Neighbours to begin with; the result does not depend on it.

    Raises:
        ComponentError: when so many neighbours are needed that they do not fit into memory.
    """
    there = int(np.isfinite(pool).all(axis=1).sum())
    known = np.full(len(pool), np.nan)  # densities so far: they do not depend on how many neighbours are looked at
    count = min(first, there)
    while True:
        found = neighbours(queries, pool, count, normalise=True, device=device)
        missing = np.unique(found.rows[np.isnan(known[found.rows])])
        known[missing] = densities(
            pool, missing, params.sigma, counted=params.density_rows, rng=rng_of(), device=device
        )
        solved = transport(distances(found.products), known[found.rows], params.alpha, params.C)
        if not solved.ended or count == there:
            break
        count = min(2 * count, there)
        if count * len(queries) > MOST:
            raise ComponentError(
                f"tsds spreads each of {len(queries)} rows of the eval sets over more than {count // 2} rows of the "
                "pool, which do not fit into memory. Raise component_params.alpha or lower C, so that nearness "
                "counts for more, or aim at fewer rows."
            )
    p = probabilities(found.rows, solved.shares, len(pool))
    return Solution(p, solved.stop, count, float(known[p > 0].mean()))
