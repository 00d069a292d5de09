"""The arithmetic of online data mixing: two rules share the name, the paper's and that of the released code.

K domains; ``t`` optimizer steps done; R the estimated reward of each domain; NaN for a domain that was never seen.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def exploration(step: int, domains: int) -> float:
    """``eps_t = min(1/K, sqrt(ln K / (K t)))``: the least share of a domain after ``step`` steps."""
    if step <= 0:
        return 1 / domains
    return min(1 / domains, math.sqrt(math.log(domains) / (domains * step)))


def follow(rewards_K: Floats, estimates_K: Floats, smoothing: float) -> Floats:
    """Move the rewards towards the estimates of a step; NaN estimates, of domains not in it, change nothing.

    A domain that is seen for the first time starts at the mean reward of those seen before, so that it is compared with
    them from the start; the first ones of all start at their estimates.
    """
    seen_before = rewards_K[np.isfinite(rewards_K)]
    begin = seen_before.mean() if len(seen_before) else estimates_K
    old = np.where(np.isfinite(rewards_K), rewards_K, begin)
    moved: Floats = smoothing * old + (1 - smoothing) * estimates_K
    return np.where(np.isfinite(estimates_K), moved, rewards_K)


def released_proportions(rewards_K: Floats, step: int) -> Floats:
    """``(1 - K eps_t) R / sum R + eps_t``; a domain without a reward counts as the mean of the others."""
    return _explore(_known(rewards_K), exploration(step, len(rewards_K)))


def paper_proportions(rewards_K: Floats, step: int) -> Floats:
    """``(1 - K eps_t) softmax(eps_{t-1} R) + eps_t``; a domain without a reward counts as the mean of the others."""
    domains = len(rewards_K)
    scores = exploration(step - 1, domains) * _known(rewards_K)
    return _explore(np.exp(scores - scores.max()), exploration(step, domains))


def _explore(weights_K: Floats, least: float) -> Floats:
    shares: Floats = (1 - len(weights_K) * least) * weights_K / weights_K.sum() + least
    shares /= shares.sum()
    return shares


def _known(rewards_K: Floats) -> Floats:
    return np.where(np.isfinite(rewards_K), rewards_K, np.nanmean(rewards_K))
