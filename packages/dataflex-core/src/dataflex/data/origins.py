"""Which data set each row of a pool comes from, where LlamaFactory merged several into one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Origins:
    """Where the rows of a pool come from. Unlike those of :class:`dataflex.mixing.domains.Domains` they may be mixed.

    Attributes:
        names: The data sets.
        indices: Data set of each row of the pool, an index into ``names``; shape ``[pool]``.
        rows: Which row of that data set it is; shape ``[pool]``.
    """

    names: tuple[str, ...]
    indices: Whole
    rows: Whole

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of the pool from each data set."""
        return tuple(np.bincount(self.indices, minlength=len(self.names)).tolist())

    def of(self, rows: npt.ArrayLike) -> Whole:
        """Index of the data set of each row; shape of ``rows``."""
        return np.asarray(self.indices[np.asarray(rows)], np.int64)
