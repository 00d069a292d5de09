"""The mixture at which a smooth objective is lowest: SciPy's SLSQP over shares that sum to 1.

Shapes: K domains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TOLERANCE = 1e-12
_MOST_ROUNDS = 1000
_ROUNDING = 1e-9
"""A share below this is what the solver rounds: it is 0."""


def lowest(
    objective: Callable[[Floats], tuple[float, Floats]], first_K: Floats, most_K: Floats | None = None
) -> tuple[Floats, float]:
    """Minimise over mixtures, from one mixture and from each single domain.

    Of a convex objective every start finds the same; of another one the lowest end counts.

    Args:
        objective: From shares [K] to its value and its gradient [K]; called with shares from 0 to 1.
        first_K: The mixture to begin with.
        most_K: The highest share of each domain; 1 if ``None``. They have to sum to 1 or more.

    Returns:
        The shares, which sum to 1 and are 0 where the solver only rounds; and the value there.

    Raises:
        ValueError: if the caps leave no mixture, or no start came to an end.
    """
    from scipy.optimize import minimize

    count = len(first_K)
    most_K = np.ones(count) if most_K is None else np.minimum(most_K, 1.0)
    if most_K.sum() < 1 - _ROUNDING:
        raise ValueError(f"the highest shares sum to {most_K.sum():.4g}, below 1")
    ends: list[tuple[float, Floats]] = []
    for start_K in (first_K, *np.eye(count)):
        found: Any = minimize(
            objective,
            _within(start_K, most_K),
            jac=True,
            bounds=list(zip(np.zeros(count), most_K, strict=True)),
            constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": _TOLERANCE, "maxiter": _MOST_ROUNDS},
        )
        shares_K = np.clip(found.x, 0.0, most_K)
        if np.isfinite(shares_K).all() and abs(shares_K.sum() - 1) < 1e-6:
            shares_K = np.where(shares_K < _ROUNDING, 0.0, shares_K)
            shares_K = shares_K / shares_K.sum()
            ends.append((float(objective(shares_K)[0]), shares_K))
    if not ends:
        raise ValueError("the solver found no mixture")
    value, shares_K = min(ends, key=lambda end: end[0])
    return shares_K, value


def _within(start_K: Floats, most_K: Floats) -> Floats:
    """A mixture near another one that keeps to the caps: what is above one goes to the others by the room they have."""
    kept_K = np.minimum(start_K, most_K)
    room_K = most_K - kept_K
    left = 1 - kept_K.sum()
    return kept_K if left <= 0 else kept_K + room_K * left / room_K.sum()
