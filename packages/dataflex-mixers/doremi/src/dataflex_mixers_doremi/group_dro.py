"""Group distributionally robust optimisation over domains, as DoReMi does it: pure functions and their state.

    excess sums, tokens ─> excess() ─> lambda ─> update() ─> alpha ─> weights in the next step's loss

Source: Xie et al. 2023, arXiv 2305.10429, algorithm 1. Shapes: K domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


def excess(clipped_sums_K: Floats, tokens_K: Whole, held_K: Floats) -> Floats:
    """Mean excess loss of each domain: ``lambda_d = sum max(loss - reference loss, 0) / tokens``.

    The clip is per token, before the sum: one token the model is far ahead in does not make up for another.

    Args:
        clipped_sums_K: Sums of the clipped differences over the whole step, all micro-batches and ranks.
        tokens_K: Tokens of each domain in the step.
        held_K: Values of the step before, which a domain without tokens keeps: absence is not ease.
    """
    present = tokens_K > 0
    return np.where(present, clipped_sums_K / np.where(present, tokens_K, 1), held_K)


def update(alpha_K: Floats, excess_K: Floats, eta: float, smoothing: float) -> Floats:
    """One exponentiated-gradient step: ``(1 - c) normalise(alpha * exp(eta * lambda)) + c / K``."""
    with np.errstate(divide="ignore"):
        raised_K = np.exp(log_update(np.log(alpha_K), excess_K, eta))
    return (1 - smoothing) * raised_K + smoothing / len(alpha_K)


def log_update(logs_K: Floats, excess_K: Floats, eta: float) -> Floats:
    """Logarithms of ``normalise(alpha * exp(eta * lambda))``, from those of alpha.

    Without smoothing a weight may fall below any number above 0, and rise again later. Its logarithm stays a number,
    where the weight itself would be 0 for ever; in the end there would be no weight left to normalise by.
    """
    # Minus the largest, which changes nothing after normalising: exp() of a large loss would overflow.
    raised_K = logs_K + eta * (excess_K - excess_K.max())
    normalised: Floats = raised_K - np.logaddexp.reduce(raised_K)
    return normalised


def official_weights(alpha_K: Floats, sampling_K: Floats, tokens_K: Whole) -> Floats:
    """Weights of the domains' mean losses that make the released code's objective of them.

    ``sum w loss / sum w`` over tokens with ``w = alpha_d / sampling_d`` is ``sum_d v_d (mean loss of d)`` with
    ``v_d = w_d n_d / sum w n``. With ``alpha = sampling`` that is the plain mean over tokens.

    Args:
        alpha_K: Weights of the domains.
        sampling_K: Proportions the step was sampled in. A domain of proportion 0 that still gives a sample it was owed
            weighs what it would at the least proportion above 0.
        tokens_K: Tokens of each domain in the step; one of them at least.
    """
    least = sampling_K[sampling_K > 0].min()
    mass_K = alpha_K / np.maximum(sampling_K, least) * tokens_K
    total = mass_K.sum()
    shares: Floats = mass_K / total if total > 0 else tokens_K / tokens_K.sum()
    return shares


@dataclass
class GroupDro:
    """The weights of the domains as they move.

    Attributes:
        alpha: Weights after the last step; shape ``[K]``.
        excess: Mean excess losses of the last step, held for absent domains; shape ``[K]``.
        total: Sum of alpha over all steps; shape ``[K]``.
        steps: Number of steps.
        moving: Exponential moving average of alpha; shape ``[K]``.
        logs: Logarithms of alpha, which tell weights apart that are 0 in fp64; shape ``[K]``.
    """

    alpha: Floats
    excess: Floats
    total: Floats
    steps: int
    moving: Floats
    logs: Floats

    @classmethod
    def begin(cls, domains: int, first_excess: float) -> GroupDro:
        """Uniform weights.

        Args:
            domains: K.
            first_excess: What a domain counts with until it is first seen: ln(vocabulary), as in the released code.
        """
        uniform = np.full(domains, 1 / domains)
        return cls(uniform, np.full(domains, first_excess), np.zeros(domains), 0, uniform.copy(), np.log(uniform))

    @property
    def average(self) -> Floats:
        """Mean of alpha over all steps: DoReMi's answer (algorithm 1). Uniform before the first."""
        return self.total / self.steps if self.steps else self.alpha

    @property
    def average_from_start(self) -> Floats:
        """That mean with the uniform weights of the start as one step more, as the released code takes it."""
        return (self.total + 1 / len(self.alpha)) / (self.steps + 1)

    def step(self, clipped_sums_K: Floats, tokens_K: Whole, *, eta: float, smoothing: float, decay: float) -> None:
        """Take one optimizer step's sums in."""
        self.excess = excess(clipped_sums_K, tokens_K, self.excess)
        logs_K = log_update(self.logs, self.excess, eta)
        self.alpha = (1 - smoothing) * np.exp(logs_K) + smoothing / len(logs_K)
        self.logs = np.log(self.alpha) if smoothing else logs_K
        self.total = self.total + self.alpha
        self.steps += 1
        self.moving = decay * self.moving + (1 - decay) * self.alpha

    def state_dict(self) -> dict[str, Any]:
        """Everything, as arrays and JSON values."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GroupDro:
        """Take back what :meth:`state_dict` gave."""
        arrays = {name: np.array(state[name], np.float64) for name in ("alpha", "excess", "total", "moving")}
        if "logs" in state:
            return cls(steps=int(state["steps"]), logs=np.array(state["logs"], np.float64), **arrays)
        with np.errstate(divide="ignore"):  # a checkpoint from before there were logarithms
            return cls(steps=int(state["steps"]), logs=np.log(arrays["alpha"]), **arrays)
