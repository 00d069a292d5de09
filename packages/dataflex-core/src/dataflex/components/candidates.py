"""Which rows a selector may choose, where a mixer has said how many of each domain are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Candidates:
    """Groups of rows, each with how many are to be chosen from it.

    A selector whose ``select`` names ``candidates`` is asked once for all domains of a run with a mixer, so that what
    does not depend on the domain (validation gradients, a screen) is made once. Its answer holds the rows of the first
    group, then those of the second, and so on; ``num_samples`` is the sum of the counts. A run without a mixer passes
    no candidates.

    Attributes:
        names: Of the groups: the domains.
        rows: Rows of the pool of each group, ascending.
        counts: How many to choose from each; 0 for a group that is not needed.
    """

    names: tuple[str, ...]
    rows: tuple[npt.NDArray[np.int64], ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.rows) == len(self.counts):
            raise ValueError("there must be one name, one array of rows and one count for each group")

    @property
    def num_samples(self) -> int:
        """Rows to choose in all."""
        return sum(self.counts)
