"""From the losses that fell in each turn to the proportions: Algorithm 2 of the paper.

K domains, M losses; ``D[i, j]`` is what loss i fell by in the turns of domain j, ``W[j]`` the mixture of those turns,
and ``A[i, k]`` what a share of domain k lowers loss i by: ``D = A W^T``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def turns(domains: int, hot: float) -> Floats:
    """W: row j has ``hot`` on domain j and the rest shared equally; shape ``[K, K]``."""
    mixtures = np.full((domains, domains), (1 - hot) / (domains - 1))
    np.fill_diagonal(mixtures, hot)
    return mixtures


def influence(drops_MK: Floats, turns_KK: Floats) -> Floats:
    """A: what domains lower losses by, solved from what turns lowered them by; shape ``[M, K]``."""
    return np.asarray(np.linalg.solve(turns_KK, drops_MK.T).T, np.float64)


def shares_of_influence(influence_MK: Floats) -> Floats | None:
    """Sums of the columns of A after its least entry, where negative, is taken off and the rest divided by its sum.

    Returns:
        Shape ``[K]``, sums to 1; ``None`` where the entries are no numbers, or all the same and not positive.
    """
    if not np.isfinite(influence_MK).all():
        return None
    raised = influence_MK - min(float(influence_MK.min()), 0.0)
    total = float(raised.sum())
    if total <= 0:
        return None
    shares: Floats = raised.sum(axis=0) / total
    return shares


def updated(proportions_K: Floats, shares_K: Floats, eta: float) -> Floats:
    """``p exp(eta * share)``, normalised."""
    weights: Floats = proportions_K * np.exp(eta * (shares_K - shares_K.max()))
    weights /= weights.sum()
    return weights
