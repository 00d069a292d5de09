"""Draws of rows: systematic sampling, and stages of which a part is drawn at random."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

_WHOLE = 1e-9  # expected counts this close to a whole number are that number: only rounding lies between


def systematic(p: npt.ArrayLike, n: int, rng: np.random.Generator) -> Rows:
    """Draw ``n`` rows so that row i comes ``floor(n p_i)`` or ``ceil(n p_i)`` times, and ``n p_i`` times on average.

    One u in [0, 1); the positions (u + m) / n, m = 0 .. n - 1, are looked up in the running sum of p.

    Args:
        p: Shape [N], not negative; divided by its sum. NaN counts as 0.
        n: How many.
        rng: Source of u.

    Returns:
        Rows ascending, shape [n]; a row that comes several times stands several times.

    Raises:
        ValueError: if an entry is negative or infinite, or none is positive.
    """
    shares = np.nan_to_num(np.asarray(p, dtype=np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    total = shares.sum()
    if shares.ndim != 1 or n < 0 or (shares < 0).any() or not 0 < total < math.inf:
        raise ValueError("p must be a vector of finite numbers, none negative and one positive, and n at least 0")
    edges = np.cumsum(shares) * (n / total)
    whole = np.rint(edges)
    edges = np.where(np.abs(edges - whole) <= _WHOLE * np.maximum(1.0, whole), whole, edges)
    down = np.floor(edges)
    below = down + (rng.random() < edges - down)  # positions u + m below each edge
    below[np.flatnonzero(shares)[-1] :] = n
    counts = np.diff(np.clip(below, 0, n), prepend=0.0).astype(np.int64)
    return np.repeat(np.arange(len(shares), dtype=np.int64), counts)


def by_score(num_samples: int, share: float) -> int:
    """How many rows of a stage are chosen by score: ``floor(share * num_samples + 1/2)``."""
    return math.floor(share * num_samples + 0.5 + _WHOLE)


def with_share(chosen: Rows, candidates: Rows, num_samples: int, rng: np.random.Generator) -> Rows:
    """Fill a stage up with rows drawn uniformly from those not chosen.

    Args:
        chosen: Rows chosen by score, :func:`by_score` of them, none twice.
        candidates: All rows that may be drawn.
        num_samples: Rows of the stage.
        rng: Source of the draw and of the order: ``context.rng(step, "share")``.

    Returns:
        ``num_samples`` rows in random order, none twice; ``chosen`` as it is where nothing is left to draw.

    Raises:
        ValueError: if there are not so many rows.
    """
    missing = num_samples - len(chosen)
    if missing <= 0:
        return chosen
    others = np.setdiff1d(candidates, chosen)
    if len(others) < missing:
        raise ValueError(f"cannot draw {missing} of the {len(others)} rows that were not chosen")
    drawn = rng.choice(others, size=missing, replace=False, shuffle=False)
    return rng.permutation(np.concatenate([chosen, drawn])).astype(np.int64)
