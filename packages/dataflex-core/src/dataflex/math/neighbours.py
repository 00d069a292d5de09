"""Exact nearest neighbours among unit rows, by blocked products.

An index such as FAISS is not needed: a search costs 2·V·N·d operations, about a second on a GPU for a thousand queries
in a million rows, and misses no neighbour. Products are made in fp64 and rounded to multiples of 2^-20, so that copies
of a row tie exactly, whatever they were multiplied in one block with; among equals the lower row comes first.

Shapes: V queries, N rows of the pool, d numbers of a row, k neighbours of a query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_STEPS = 2.0**20  # products are multiples of 1 / _STEPS
_MOST_ROWS = 2**40  # product and row share one int64
_NUMBERS = 2**23  # numbers of one block of products, and of one block of rows in fp64: 64 MB
_SAME = 1e-6  # a squared distance below this is rounding of fp16 or fp32

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[Any] | torch.Tensor
"""Rows of any floating dtype, as an array or a tensor."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each query, nearest first.

    Attributes:
        rows: Rows of the pool, shape [V, k]; fewer columns where fewer rows of the pool are finite.
        products: Their inner products with the query, multiples of 2^-20, shape [V, k].
        best: The highest product of each row of the pool with any query, shape [N]; NaN for a row that is not finite.
    """

    rows: Rows
    products: Values
    best: Values


def neighbours(
    queries: Matrix,
    pool: Matrix,
    k: int,
    *,
    among: npt.NDArray[np.bool_] | None = None,
    normalise: bool = False,
    block: int | None = None,
    device: Any = None,
) -> Neighbours:
    """The ``k`` rows of ``pool`` with the highest inner product with each query, in the order of (-product, row).

    Rows of length 1 are expected, for which the product is the cosine; a row of the pool with a NaN is nobody's
    neighbour. The result does not depend on ``block``.

    Args:
        queries: Shape [V, d].
        pool: Shape [N, d].
        k: Neighbours of each query; at most all finite rows are given.
        among: Which rows may be neighbours, shape [N]; ``None`` for all. ``best`` is of all in any case.
        normalise: Bring the rows to length 1 first, which fp16 rows are to 5e-4 only.
        block: Rows of the pool that are multiplied at one time; ``None`` for what takes 64 MB.
        device: Where to multiply; ``None`` for the CPU.

    Raises:
        ValueError: when shapes do not fit, a query is not finite, or a product is 4 or above: no unit rows.
    """
    if k < 1:
        raise ValueError(f"{k=} neighbours were asked for; there is at least one")
    _check(queries, pool)
    total = len(pool)
    best_N = np.full(total, np.nan)
    keys_Vk = torch.full((len(queries), 0), 0, dtype=torch.int64)
    for start, products_Vb in _blocks(queries, pool, normalise, block, device):
        finite_b = torch.isfinite(products_Vb).all(dim=0)
        steps_Vb = (products_Vb * _STEPS).round().nan_to_num(0.0)
        if steps_Vb.numel() and float(steps_Vb.abs().max()) >= 4 * _STEPS:
            raise ValueError("rows have an inner product of 4 or above: bring them to length 1 first")
        places_b = torch.arange(start, start + steps_Vb.shape[1], device=steps_Vb.device)
        whole_Vb = steps_Vb.to(torch.int64)
        if len(queries):
            best = (whole_Vb.max(dim=0).values / _STEPS).cpu().double()
            best_N[start : start + len(best)] = torch.where(finite_b.cpu(), best, torch.nan).numpy()
        if among is not None:
            finite_b = finite_b & torch.from_numpy(among[start : start + len(finite_b)]).to(finite_b.device)
        # One whole number holds both: the product first and, where it is equal, the lower row.
        keys_Vb = (whole_Vb * _MOST_ROWS + (_MOST_ROWS - 1 - places_b))[:, finite_b]
        keys_Vb = keys_Vb.topk(min(k, keys_Vb.shape[1]), dim=1).values.cpu()
        keys_Vk = torch.cat([keys_Vk, keys_Vb], dim=1)
        keys_Vk = keys_Vk.topk(min(k, keys_Vk.shape[1]), dim=1).values
    rows_Vk = _MOST_ROWS - 1 - keys_Vk.remainder(_MOST_ROWS)
    steps_Vk = keys_Vk.div(_MOST_ROWS, rounding_mode="floor")
    return Neighbours(rows_Vk.numpy(), (steps_Vk.double() / _STEPS).numpy(), best_N)


def mean_products(
    queries: Matrix, pool: Matrix, *, normalise: bool = False, block: int | None = None, device: Any = None
) -> Values:
    """The mean over queries of each row's inner product, multiples of 2^-20, shape [N]; NaN where a row is not finite.

    One product with the mean query: the mean of products is the product with the mean.

    Args:
        queries: Shape [V, d], at least one.
        pool: Shape [N, d].
        normalise: As of :func:`neighbours`, for queries and rows before the mean is taken.
        block: As of :func:`neighbours`.
        device: As of :func:`neighbours`.
    """
    _check(queries, pool)
    target = in_fp64(queries, device, normalise).mean(dim=0, keepdim=True)
    found = [np.zeros(0)]
    for start, stop in _pieces(len(pool), block, pool.shape[1]):
        products = in_fp64(pool[start:stop], device, normalise) @ target.T
        found.append(((products[:, 0] * _STEPS).round() / _STEPS).cpu().numpy())
    return np.concatenate(found)


def distances(products: npt.ArrayLike) -> Values:
    """Euclidean distances of unit rows with these inner products: the root of max(0, 2 - 2s).

    A squared distance below 1e-6 counts as 0: that is rounding.
    """
    squared = 2.0 - 2.0 * np.asarray(products, dtype=np.float64)
    return np.sqrt(np.where(squared < _SAME, 0.0, squared))


def _blocks(
    queries: Matrix, pool: Matrix, normalise: bool, block: int | None, device: Any
) -> Iterator[tuple[int, torch.Tensor]]:
    """Products of all queries with a block of rows, fp64, shape [V, b], each with its first row."""
    queries_Vd = in_fp64(queries, device, normalise)
    for start, stop in _pieces(len(pool), block, max(pool.shape[1], len(queries))):
        yield start, queries_Vd @ in_fp64(pool[start:stop], device, normalise).T


def _pieces(total: int, block: int | None, width: int) -> Iterator[tuple[int, int]]:
    size = max(1, _NUMBERS // max(width, 1)) if block is None else block
    for start in range(0, total, size):
        yield start, min(start + size, total)


def in_fp64(matrix: Matrix, device: Any, normalise: bool) -> torch.Tensor:
    """Rows in fp64, in which products of fp16 numbers are exact; on the CPU where the device has no fp64.

    Args:
        matrix: Rows of any floating dtype.
        device: Where they go; ``None`` leaves them.
        normalise: Bring them to length 1.
    """
    tensor = torch.as_tensor(matrix)
    if device is not None and torch.device(device).type != "mps":
        tensor = tensor.to(device)
    tensor = tensor.double()
    return tensor / tensor.norm(dim=1, keepdim=True) if normalise else tensor


def _check(queries: Matrix, pool: Matrix) -> None:
    if queries.ndim != 2 or pool.ndim != 2 or queries.shape[1] != pool.shape[1]:
        raise ValueError(f"queries of shape {tuple(queries.shape)} do not fit rows of shape {tuple(pool.shape)}")
    if not bool(torch.isfinite(torch.as_tensor(queries)).all()):
        raise ValueError("a query is not finite: leave it out")
