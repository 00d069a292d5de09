"""Power laws of training losses, ``L(n) = e + b n^-a``, and how fast they fall.

A law is fitted by a Huber regression of our own: the exponent runs over a grid, a coarse one and then a fine one around
the best, and for each exponent the best ``e`` and ``b`` are found by reweighted least squares. The steps are fixed in
number and plain arithmetic, and there is no start to choose: every machine finds the same law.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_POINTS = 250
"""More points than that are averaged, neighbours with neighbours, so that a fit takes the same time in a long run."""

DELTA = 1e-3
"""Of the Huber loss: larger errors of the log loss count by their size, not by its square."""

LEAST_BLOCKS = 10
LEAST_EXPONENT = 0.05
_MOST_EXPONENT = 80  # in hundredths, as all of the grid
_COARSE = 5
_ROUNDS = 25
_LEAST_LOSS = 1e-9


def fit(samples_N: Floats, losses_N: Floats) -> Floats | None:
    """Fit ``(b, e, a)``, b and e not negative, to the losses of one domain; ``None`` for fewer than 10 of them.

    Args:
        samples_N: Samples the run had seen at each point, above 0.
        losses_N: Mean token losses there; NaN where there is none. Losses of 0 count as 1e-9.
    """
    known = np.isfinite(losses_N)
    if int(known.sum()) < LEAST_BLOCKS:
        return None
    samples, losses = _averaged(samples_N[known]), np.maximum(_averaged(losses_N[known]), _LEAST_LOSS)
    near = _best(samples, losses, [1, *range(_COARSE, _MOST_EXPONENT + 1, _COARSE)])[0]
    fine = range(max(1, near - _COARSE + 1), min(_MOST_EXPONENT, near + _COARSE - 1) + 1)
    return _best(samples, losses, fine)[1]


def _averaged(values_N: Floats) -> Floats:
    """Means of as many neighbours as leave at most :data:`MOST_POINTS` of them."""
    together = -(-len(values_N) // MOST_POINTS)
    starts = np.arange(0, len(values_N), together)
    sums: Floats = np.add.reduceat(values_N, starts)
    return sums / np.diff(np.append(starts, len(values_N)))


def _best(samples_N: Floats, losses_N: Floats, hundredths: Sequence[int]) -> tuple[int, Floats]:
    """The exponent under which the Huber loss is least, in hundredths, and its law."""
    exponents_A = np.array(hundredths) / 100
    unit = float(np.exp(np.log(samples_N).mean()))  # so that the powers are near 1
    powers_AN = (samples_N / unit) ** -exponents_A[:, None]
    floors_A, factors_A = _floors_and_factors(powers_AN, losses_N)
    errors_AN = np.log((floors_A[:, None] + factors_A[:, None] * powers_AN) / losses_N)
    best = int(_huber(errors_AN).argmin())
    exponent = float(exponents_A[best])
    return hundredths[best], np.array([factors_A[best] * unit**exponent, floors_A[best], exponent])


def _huber(errors_AN: Floats) -> Floats:
    """The Huber loss of each row of errors, summed."""
    size = np.abs(errors_AN)
    costs: Floats = np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum(axis=1)
    return costs


def _floors_and_factors(powers_AN: Floats, losses_N: Floats) -> tuple[Floats, Floats]:
    """The floor and factor that fit best at each exponent, by Gauss-Newton steps on the log losses."""
    predicted = np.broadcast_to(losses_N, powers_AN.shape)
    for _ in range(_ROUNDS):
        errors = np.log(predicted / losses_N)
        weights = np.minimum(1.0, DELTA / np.maximum(np.abs(errors), 1e-300)) / predicted**2
        aims = predicted * (1 - np.clip(errors, -0.5, 0.5))
        floors, factors = _least_squares(weights, powers_AN, aims)
        predicted = floors[:, None] + factors[:, None] * powers_AN
    return floors, factors


def _least_squares(weights_AN: Floats, powers_AN: Floats, aims_AN: Floats) -> tuple[Floats, Floats]:
    """``min sum w (aim - floor - factor power)^2`` with both not negative, for each row."""
    total = weights_AN.sum(axis=1)
    power = (weights_AN * powers_AN).sum(axis=1) / total
    aim = (weights_AN * aims_AN).sum(axis=1) / total
    centred = powers_AN - power[:, None]
    spread = (weights_AN * centred**2).sum(axis=1)
    slope = (weights_AN * centred * aims_AN).sum(axis=1) / np.maximum(spread, 1e-300)
    floor = aim - slope * power
    square = (weights_AN * powers_AN**2).sum(axis=1)
    through_zero = (weights_AN * powers_AN * aims_AN).sum(axis=1) / square
    factor = np.where(slope < 0, 0.0, np.where(floor < 0, through_zero, slope))
    return np.where(slope < 0, aim, np.where(floor < 0, 0.0, floor)), factor


def speeds(laws_K3: Floats, samples: float) -> Floats:
    """``max(a, .05) (L(n) - e) / n``: how much a sample lowers each domain's loss, by its law; shape ``[K]``.

    Args:
        laws_K3: ``(b, e, a)`` of each domain; a domain without a law, NaN, has the mean speed of the others.
        samples: Samples of the whole run so far, the same for every domain.
    """
    factors, _, exponents = laws_K3.T
    found: Floats = np.maximum(exponents, LEAST_EXPONENT) * factors * samples**-exponents / samples
    known = np.isfinite(found)
    return np.where(known, found, found[known].mean() if known.any() else np.nan)


def aim(prior_K: Floats, shares_K: Floats, speeds_K: Floats, *, credit: float, least: float) -> Floats:
    """``mu h^s g``, normalised, then at least ``least`` each, renormalised; the prior where nothing is learned.

    Args:
        prior_K: mu, shares that sum to 1.
        shares_K: h, recent shares of the samples.
        speeds_K: g, as :func:`speeds` gives them.
        credit: s.
        least: Least share.
    """
    weights = prior_K * shares_K**credit * speeds_K
    total = weights.sum()
    shares: Floats = np.maximum(weights / total if total > 0 else prior_K, least)
    shares /= shares.sum()
    return shares
