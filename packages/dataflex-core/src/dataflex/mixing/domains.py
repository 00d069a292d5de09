"""The domains of a pool: named runs of consecutive rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError
from dataflex.mixing.proportions import join_names

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


def checked_sizes(sizes: Sequence[int], names: Sequence[str]) -> Whole:
    """Rows of each domain, all of them with a row and a name of its own.

    Raises:
        ConfigError: names the domain that has not.
    """
    if not names or len(sizes) != len(names):
        raise ConfigError(f"{len(sizes)} sizes were given for {len(names)} domains ({join_names(names)}).")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"the domain {join_names(twice)} is named twice; every domain needs a name of its own.")
    given = np.asarray(sizes, np.int64)
    empty = np.flatnonzero(given < 1)
    if len(empty):
        raise ConfigError(f"the domain {join_names([names[k] for k in empty.tolist()])} has no rows. Leave it out.")
    return given


def typical_length(
    lengths: Whole | None, sizes: Whole, offsets: Whole, names: Sequence[str], *, by_tokens: bool
) -> int:
    """Mean length of a row of the pool, at least 1; 1 where lengths are unknown.

    Args:
        lengths: Trained tokens of every row of the pool.
        sizes: Rows of each domain.
        offsets: First row of each domain.
        names: The domains.
        by_tokens: Whether proportions are shares of tokens, so that every domain has to have some.

    Raises:
        ConfigError: when there is not one length for each row, or not one token in a domain that needs some.
    """
    if lengths is None:
        if by_tokens:
            raise ConfigError("a mixture by tokens needs the trained tokens of every row, and none were given.")
        return 1
    if lengths.shape != (int(sizes.sum()),) or (lengths < 0).any():
        raise ConfigError(
            f"{lengths.shape} lengths were given for {int(sizes.sum())} rows; there must be one per row, not negative."
        )
    if by_tokens:
        empty = np.flatnonzero(np.add.reduceat(lengths, offsets) == 0)
        if len(empty):
            listed = join_names([names[k] for k in empty.tolist()])
            raise ConfigError(f"{listed}: no row has a token to train on, so no share of tokens can be reached.")
    return max(1, round(float(lengths.mean())))
