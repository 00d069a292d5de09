"""The domains of a run with a mixer, as a weighter's normaliser needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DomainOf = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
"""From rows of the pool to the domain of each."""


@dataclass(frozen=True)
class WeighedDomains:
    """The domains of a run with a mixer, in each of which weights are normalised by themselves.

    Attributes:
        names: Theirs.
        of: Index of the domain of each of some rows.
    """

    names: tuple[str, ...]
    of: DomainOf
