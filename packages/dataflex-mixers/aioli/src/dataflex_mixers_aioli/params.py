"""Parameters of the mixer ``aioli``, and which runs are too small or too many-sided for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dataflex import ConfigError, param

MOST_DOMAINS = 7
"""More of them are refused without ``force``: a sweep grows with the domains, and so does the noise of it."""


class Prior(StrEnum):
    """What the first update starts from."""

    PROPORTIONS = "proportions"
    UNIFORM = "uniform"


@dataclass(frozen=True)
class AioliParams:
    """What a run file may set under ``component_params``.

    Raises:
        ConfigError: for an empty list of targets.
    """

    round_steps: int = param(
        help="Optimizer steps of a round: a sweep, of rounds * domains * update_step steps, and what is trained by it.",
        at_least=1,
    )
    rounds: int = param(4, "Times that each domain has its turn in a sweep.", at_least=1)
    hot: float = param(0.625, "Share of the domain whose turn it is; the others share the rest.", above=0, at_most=1)
    eta: float = param(0.2, "Step size of the update of the proportions.", at_least=0, below=math.inf)
    ema: float = param(0.0, "Share of the earlier sweeps in what the update goes by.", at_least=0, below=1)
    max_samples: int | None = param(
        256, "Rows of a domain, or of a target, that are evaluated at each turn; null: all of them.", at_least=1
    )
    prior: Prior = param(
        Prior.PROPORTIONS, "What the first update starts from: the run's first proportions, or uniform ones."
    )
    targets: list[str] | None = param(
        None, "Eval sets whose losses are to fall; null: those of the domains themselves."
    )
    force: bool = param(False, f"Run with more than {MOST_DOMAINS} domains all the same.")

    def __post_init__(self) -> None:
        if self.targets is not None and not self.targets:
            raise ConfigError("targets is empty; name eval sets, or leave it out for the losses of the domains.")


def sweep_steps(rounds: int, domains: int, update_step: int) -> int:
    """Optimizer steps of a sweep."""
    return rounds * domains * update_step


def unfit_domains(domains: int, hot: float, force: bool) -> str:
    """Why a run with so many domains is refused; ``""`` if it is not."""
    if domains == 1:
        return "mixer 'aioli' compares domains, and this run has one. Use train_type: static."
    if domains > MOST_DOMAINS and not force:
        return (
            f"mixer 'aioli' finds little with more than {MOST_DOMAINS} domains, and this run has {domains}: a sweep "
            "takes longer with each, and what it measures gets noisier. Merge domains, or set force: true."
        )
    if math.isclose(hot, 1 / domains, rel_tol=1e-6):
        return (
            f"hot: {hot} of mixer 'aioli' is the share of each of {domains} domains, so all turns would be alike. Set "
            "it higher."
        )
    return ""
