"""How many copies of itself a row has in the pool, near ones counted in part.

Shapes: n rows of the pool, R rows asked for, m rows counted, d numbers of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.math.neighbours import distances

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_BLOCK = 2048  # rows of one product


def densities(
    pool: npt.NDArray[Any], rows: Rows, sigma: float, *, counted: int, rng: np.random.Generator, device: Any = None
) -> Values:
    """``sum_l max(0, 1 - |x_i - x_l|^2 / sigma^2)`` over the rows l of the pool, i included: the Epanechnikov kernel.

    Above ``counted`` rows the sum over the others is estimated on a random part of so many:
    ``1 + (n - 1) / m * sum``, each row left out of its own.

    Args:
        pool: Unit rows of any floating dtype, shape [n, d]; a row with a NaN counts for nobody.
        rows: Which rows' densities, none with a NaN.
        sigma: Width of the kernel; 0 gives 1 for every row.
        counted: Most rows to count.
        rng: Draws them.
        device: Where to multiply; ``None`` for the CPU.

    Returns:
        At least 1, shape of ``rows``.
    """
    if sigma == 0 or not len(rows):
        return np.ones(len(rows))
    others = np.flatnonzero(np.isfinite(pool).all(axis=1))
    total = len(others)
    if total > counted:
        others = np.sort(rng.choice(others, size=counted, replace=False, shuffle=False))
    sums = np.zeros(len(rows))
    for start in range(0, len(rows), _BLOCK):
        mine = slice(start, start + _BLOCK)
        asked = _unit(pool[rows[mine]], device)
        for first in range(0, len(others), _BLOCK):
            theirs = others[first : first + _BLOCK]
            products = (asked @ _unit(pool[theirs], device).T).cpu().numpy()
            near = np.maximum(0.0, 1.0 - distances(products) ** 2 / sigma**2)
            near[rows[mine][:, None] == theirs[None, :]] = 0.0  # itself counts as 1, below
            sums[mine] += near.sum(axis=1)
    itself = np.isin(rows, others)
    return np.asarray(1.0 + sums * (total - 1) / np.maximum(len(others) - itself, 1))


def _unit(values: npt.NDArray[Any], device: Any) -> torch.Tensor:
    """In fp32 and of length 1, which fp16 rows are to 5e-4 only."""
    tensor = torch.as_tensor(np.asarray(values, np.float32))
    tensor = tensor if device is None else tensor.to(device)
    lengths: torch.Tensor = tensor.norm(dim=1, keepdim=True)
    return tensor / lengths
