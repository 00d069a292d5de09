"""The domains of a pool: named runs of consecutive rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError


@dataclass(frozen=True)
class Domains:
    """Which rows of the pool belong to which domain.

    Attributes:
        names: One for each domain, in the order of the proportions.
        sizes: Rows of each; domain ``k`` owns the rows after those of the domains before it.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ConfigError(f"dataset names {', '.join(sorted(twice))} more than once; every domain needs its own name.")
        empty = [name for name, size in zip(self.names, self.sizes, strict=True) if size == 0]
        if empty:
            raise ConfigError(f"the domain {', '.join(empty)} has no rows. Leave it out of dataset.")

    def of_rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The domain index of each row; shape of ``rows``."""
        ends = np.cumsum(self.sizes)
        return np.searchsorted(ends, rows, side="right").astype(np.int64)
