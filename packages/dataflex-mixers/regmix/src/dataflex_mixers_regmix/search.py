"""From a table of small runs to the mixture that the law finds best: fit, validate, minimise.

Shapes: N runs, K domains, M eval sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflex import ConfigError
from dataflex.math.simplex import lowest
from dataflex_mixers_regmix.law import Law, fit_laws, total

Floats = npt.NDArray[np.float64]

FOLDS = 5
_STARTS_OF_A_FOLD = 20
LEAST_CORRELATION = 0.5
"""Rank correlation of predicted and found losses below which a law says nothing about mixtures."""

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is looked for.

    Attributes:
        prior_K: The mixture that the answer is drawn towards.
        weights_M: Weights of the eval sets; they sum to 1.
        kl: How strongly: the factor of KL(p | prior), in nats of loss.
        most_K: Highest share of each domain, by how often its rows may be read.
    """

    prior_K: Floats
    weights_M: Floats
    kl: float
    most_K: Floats


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was found.

    Attributes:
        shares_K: The mixture.
        loss: The law's loss there.
        prior_loss: The law's loss at the prior.
        laws: One for each eval set.
        predicted_N: The weighted loss of each run, predicted by laws fitted without it.
        found_N: The weighted loss that the run had.
        correlation: Spearman's rank correlation of the two; NaN where one of them has one value alone.
    """

    shares_K: Floats
    loss: float
    prior_loss: float
    laws: Sequence[Law]
    predicted_N: Floats
    found_N: Floats
    correlation: float


def search(mixtures_NK: Floats, losses_NM: Floats, wanted: Wanted) -> Answer:
    """Fit the laws and minimise them, with the rank correlation on left-out runs.

    Args:
        mixtures_NK: Mixture of each run.
        losses_NM: Loss of each run on each eval set.
        wanted: What is looked for.

    Raises:
        ConfigError: for too few runs, losses that the law cannot have, or caps that leave no mixture.
    """
    count, domains = mixtures_NK.shape
    least = least_runs(domains)
    if count < least:
        raise ConfigError(
            f"{count} runs are too few for {domains} domains: a law has {domains + 1} numbers, and one fit in {FOLDS} "
            f"leaves out a fifth of the runs. Make at least {least}, better three a domain."
        )
    if not (np.isfinite(losses_NM).all() and (losses_NM > 0).all()):
        raise ConfigError("a loss is not finite or not above 0, which no law has. Look at the runs, and leave it out.")
    predicted_N = predict_left_out(mixtures_NK, losses_NM, wanted.weights_M)
    laws = fit_laws(mixtures_NK, losses_NM)
    found_N = losses_NM @ wanted.weights_M
    shares_K = best_mixture(laws, wanted)
    return Answer(
        shares_K=shares_K,
        loss=float(total(laws, wanted.weights_M, shares_K)),
        prior_loss=float(total(laws, wanted.weights_M, wanted.prior_K)),
        laws=laws,
        predicted_N=predicted_N,
        found_N=found_N,
        correlation=rank_correlation(predicted_N, found_N),
    )


def least_runs(domains: int) -> int:
    """The fewest runs of which four fifths determine a law."""
    return math.ceil((domains + 1) * FOLDS / (FOLDS - 1))


def predict_left_out(mixtures_NK: Floats, losses_NM: Floats, weights_M: Floats) -> Floats:
    """The weighted loss of each run by laws that were fitted without its fold."""
    order = np.random.default_rng(0).permutation(len(mixtures_NK))  # a table may be sorted
    predicted_N = np.empty(len(mixtures_NK))
    for fold in range(FOLDS):
        left_out = order[fold::FOLDS]
        kept = np.setdiff1d(order, left_out)
        laws = fit_laws(mixtures_NK[kept], losses_NM[kept], _STARTS_OF_A_FOLD)
        predicted_N[left_out] = total(laws, weights_M, mixtures_NK[left_out])
    return predicted_N


def rank_correlation(predicted_N: Floats, found_N: Floats) -> float:
    """Spearman's rank correlation; NaN where one of the two has one value alone."""
    from scipy.stats import spearmanr

    if np.ptp(predicted_N) == 0 or np.ptp(found_N) == 0:
        return math.nan
    return float(spearmanr(predicted_N, found_N).statistic)


def require_correlation(answer: Answer, *, force: bool) -> None:
    """Refuse laws that do not tell a better run from a worse one.

    Raises:
        ConfigError: names the correlation and what may help.
    """
    if answer.correlation >= LEAST_CORRELATION or force:  # NaN is below
        return
    raise ConfigError(
        f"the rank correlation of predicted and found losses on left-out runs is {answer.correlation:.2f}, below "
        f"{LEAST_CORRELATION}: the law cannot tell better mixtures from worse ones. Make more runs, longer ones or a "
        "larger model; --force goes on nevertheless."
    )


def best_mixture(laws: Sequence[Law], wanted: Wanted) -> Floats:
    """Minimise ``sum_m v_m L_m(p) + kl KL(p | prior)`` under the caps; convex.

    Raises:
        ConfigError: if the caps leave no mixture.
    """

    def objective(shares_K: Floats) -> tuple[float, Floats]:
        value, gradient = 0.0, np.zeros_like(shares_K)
        for weight, law in zip(wanted.weights_M, laws, strict=True):
            value += weight * float(law.loss(shares_K))
            gradient += weight * law.gradient(shares_K)
        ratio = np.log(np.maximum(shares_K, _TINY) / np.maximum(wanted.prior_K, _TINY))
        return value + wanted.kl * float(shares_K @ ratio), gradient + wanted.kl * (ratio + 1)

    most_K = np.where(wanted.prior_K > 0, wanted.most_K, 0.0)  # KL is infinite elsewhere, and no run tried it
    try:
        return lowest(objective, wanted.prior_K, most_K)[0]
    except ValueError as error:
        raise ConfigError(
            f"no mixture keeps to the caps: {error}. The domains hold too few tokens to be read `repeats` times each "
            "for `wanted_tokens`. Raise repeats, or lower wanted_tokens."
        ) from error
