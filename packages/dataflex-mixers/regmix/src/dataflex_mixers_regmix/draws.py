"""The mixtures of the small runs: Dirichlet draws around the prior, some close to it and some close to single domains.

Shapes: N runs, K domains.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.rng import stream

Floats = npt.NDArray[np.float64]

_LEAST_STRENGTH, _MOST_STRENGTH = 0.1, 5.0
_LEAST_SHARE = 1e-3
"""A share below this is drawn as 0: such a run would read a row or none of the domain."""


def default_count(domains: int) -> int:
    """Runs for so many domains: three a domain, and at least 20."""
    return max(3 * domains, 20)


def draw_mixture(prior_K: Floats, seed: int, run: int) -> Floats:
    """The mixture of a run: a function of the seed and its number, whatever the other runs are.

    Args:
        prior_K: Mean of the draws.
        seed: The project's.
        run: Number of the run, from 0.

    Returns:
        Shares, shape [K].
    """
    draw = stream(seed, 0, "regmix", run)
    strength = np.exp(draw.uniform(np.log(_LEAST_STRENGTH), np.log(_MOST_STRENGTH)))
    present = prior_K > 0  # a domain without a share has none in any run
    shares_K = np.zeros_like(prior_K)
    shares_K[present] = draw.dirichlet(prior_K[present] * strength)
    shares_K[shares_K < _LEAST_SHARE] = 0.0
    normed_K: Floats = shares_K / shares_K.sum()
    return normed_K
