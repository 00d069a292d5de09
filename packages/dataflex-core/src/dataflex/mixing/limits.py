"""``mixture_max_epochs``: how often the rows of a domain may be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError, shown
from dataflex.hints import did_you_mean
from dataflex.mixing.proportions import join_names

Whole = npt.NDArray[np.int64]

LIMITS = "mixture_max_epochs"
"""The key of a run file."""

ENDLESS = np.iinfo(np.int64).max
"""The limit of a domain without one, in rows."""


def check_limits(max_epochs: Mapping[str, float] | float | None, names: Sequence[str], source: str = LIMITS) -> None:
    """Check that limits by name are of domains there are.

    Args:
        max_epochs: Most passes over a domain, for all or by name.
        names: The domains.
        source: What messages call the limits.

    Raises:
        ConfigError: names a domain that there is not.
    """
    for name in max_epochs if isinstance(max_epochs, Mapping) else ():
        if name not in names:
            hint = did_you_mean(str(name), names)
            raise ConfigError(f"{source} names the unknown domain {name!r}.{hint} Domains: {join_names(names)}.")


def limits_in_rows(max_epochs: Mapping[str, float] | float | None, sizes: Whole, names: Sequence[str]) -> Whole:
    """Most rows that may ever be drawn from each domain.

    Args:
        max_epochs: Most passes over a domain, for all or by name; fractions are rounded down to whole rows.
        sizes: Rows of each domain.
        names: The domains.

    Raises:
        ConfigError: names a domain that there is not, and a limit that is no number above 0 or below one row.
    """
    caps = np.full(len(names), ENDLESS, np.int64)
    if max_epochs is None:
        return caps
    check_limits(max_epochs, names)
    given = max_epochs if isinstance(max_epochs, Mapping) else dict.fromkeys(names, max_epochs)
    for name, epochs in given.items():
        if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not 0 < epochs < math.inf:
            raise ConfigError(f"mixture_max_epochs of {name!r} is {shown(epochs)}; it must be a number above 0.")
        domain = names.index(name)
        caps[domain] = min(math.floor(epochs * int(sizes[domain]) + 1e-9), ENDLESS)
        if not caps[domain]:
            raise ConfigError(
                f"mixture_max_epochs: {epochs} of {name!r} ({sizes[domain]} rows) does not allow a single row."
            )
    return caps
