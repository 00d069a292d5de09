"""Few rows that stand for many: greedy choice by maximum mean discrepancy, under a Gaussian kernel.

With the kernel ``k(x, y) = exp(-|x - y|^2 / 2)``, diagonal included, the discrepancy of a choice Z of t rows from all
n is ``MMD^2 = mean k over Z x Z - 2 mean k over Z x all + mean k over all x all``. Source of the greedy choice: Kim,
Khanna & Koyejo 2016, "Examples are not enough, learn to criticize!".

Shapes: n rows, d numbers of a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_NUMBERS = 2**23  # numbers of one block of the kernel: 64 MB
_SAME = 1e-6  # a squared distance below this is rounding of fp16
_TIE = 1e-12

Values = npt.NDArray[np.float64]


def gaussian(first: npt.ArrayLike, second: npt.ArrayLike) -> Values:
    """``exp(-|x - y|^2 / 2)`` of each of the first with each of the second rows, fp64; 1 for rows nearer than 1e-3."""
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    squares = (one * one).sum(axis=1)[:, None] + (other * other).sum(axis=1) - 2.0 * (one @ other.T)
    return np.exp(-0.5 * np.where(squares < _SAME, 0.0, squares))


def kernel_means(rows: npt.ArrayLike) -> Values:
    """The mean kernel of each row with all rows, itself included, shape [n]; the kernel is made in pieces of 64 MB."""
    values = np.asarray(rows, np.float64)
    size = max(1, _NUMBERS // max(len(values), 1))
    parts = [gaussian(values[start : start + size], values).mean(axis=1) for start in range(0, len(values), size)]
    return np.concatenate([np.zeros(0), *parts])


def greedy_mmd(rows: npt.ArrayLike, count: int, means: Values | None = None) -> npt.NDArray[np.int64]:
    """Choose rows one after another, each so that the discrepancy of the choice so far is least.

    The t-th row is the one of least ``(2 r_i + 1) / t^2 - 2 m_i / t``, with ``r_i`` its summed kernel with the rows
    chosen and ``m_i`` its mean kernel with all; among equals (1e-12) the lower row. So the first rows do not depend on
    how many are chosen. The choice need not be the best of its size.

    Args:
        rows: Shape [n, d]; held in fp64 meanwhile.
        count: How many, at most n.
        means: What :func:`kernel_means` gives; ``None`` makes it.

    Returns:
        Places of the rows in the order chosen, each once, shape [count].

    Raises:
        ValueError: for more rows than there are.
    """
    values = np.asarray(rows, np.float64)
    if not 0 <= count <= len(values):
        raise ValueError(f"cannot choose {count} of {len(values)} rows")
    means_n = kernel_means(values) if means is None else means
    return np.fromiter(_chosen(values, count, means_n), np.int64, count)


def _chosen(values: Values, count: int, means_n: Values) -> Iterator[int]:
    sums_n, free_n = np.zeros(len(values)), np.ones(len(values), np.bool_)
    for number in range(1, count + 1):
        gains_n = np.where(free_n, (2.0 * sums_n + 1.0) / number**2 - 2.0 * means_n / number, np.inf)
        row = int(np.flatnonzero(gains_n <= gains_n.min() + _TIE)[0])
        free_n[row] = False
        sums_n += gaussian(values[row : row + 1], values)[0]
        yield row
