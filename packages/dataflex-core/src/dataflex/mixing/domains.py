"""The domains of a pool: named runs of consecutive rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Domains:
    """Which rows of the pool belong to which domain, and how many tokens of each row are trained on.

    Attributes:
        names: One for each domain, in the order of the proportions.
        sizes: Rows of each; domain ``k`` owns the rows after those of the domains before it.
        lengths: Trained tokens of every row of the pool, shape ``[sum(sizes)]``.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    lengths: Whole

    @property
    def tokens(self) -> Whole:
        """Trained tokens of each domain; shape ``[domains]``."""
        starts = np.cumsum([0, *self.sizes[:-1]])
        return np.add.reduceat(self.lengths, starts)  # right for domains that have rows, as all do

    def of(self, rows: npt.ArrayLike) -> Whole:
        """Index of the domain of each row; shape of ``rows``."""
        return domain_of(rows, self.sizes)


def domain_of(rows: npt.ArrayLike, sizes: npt.ArrayLike) -> Whole:
    """Index of the domain each row of the pool belongs to; shape of ``rows``."""
    return np.searchsorted(np.cumsum(sizes), np.asarray(rows), side="right").astype(np.int64)
