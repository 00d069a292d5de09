"""From the settings of a mix run and the domains of its pool to what is sampled, and in which first proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflex.config.gathering import Gathered
from dataflex.config.mixture import INITIAL, MixtureSettings, Rule, Unit
from dataflex.errors import ConfigError
from dataflex.mixing.domains import Domains
from dataflex.mixing.limits import LIMITS, check_limits
from dataflex.mixing.proportions import Proportions, check_proportions, stratified, temperature, uniform, unimax
from dataflex.mixing.sampler import MixtureSampler


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mix run's sampling at its start.

    Attributes:
        domains: The domains of the pool.
        sampler: Draws rows of the pool, and remembers how far it has read each domain.
        proportions: Those of the warm-up; shape ``[domains]``.
    """

    domains: Domains
    sampler: MixtureSampler
    proportions: Proportions


def check_domain_names(settings: MixtureSettings, names: Sequence[str]) -> None:
    """Check what a mix run says about its domains as soon as their names are known, all of it at once.

    Args:
        settings: The keys of the run file.
        names: The domains.

    Raises:
        ConfigError: names the domains.
    """
    problems = Gathered()
    if settings.rule is Rule.MIXTURE and settings.initial is not None:
        with problems.taking():
            check_proportions(settings.initial, names, f"{INITIAL} (from {settings.source})")
    with problems.taking():
        check_limits(settings.max_epochs, names, f"{LIMITS} (from {settings.source})")
    problems.refuse()


def open_mixture(settings: MixtureSettings, domains: Domains, *, samples: int, seed: int) -> Mixture:
    """Set up the sampling of a mix run.

    Args:
        settings: The keys of the run file.
        domains: The domains of the pool.
        samples: Samples of the whole run, over all ranks.
        seed: The run's seed.

    Raises:
        ConfigError: when the settings do not fit the domains; names them.
    """
    sampler = MixtureSampler(
        domains.sizes,
        domains.names,
        seed=seed,
        unit=settings.unit,
        lengths=domains.lengths,
        max_epochs=settings.max_epochs,
        on_exhausted=settings.on_exhausted,
    )
    if sampler.capacity < samples:
        raise ConfigError(
            f"mixture_max_epochs allows {sampler.capacity:.0f} samples in all, but the run draws {samples}. Raise it, "
            "add data, or train fewer steps."
        )
    return Mixture(domains, sampler, _first_proportions(settings, domains, samples))


def _first_proportions(settings: MixtureSettings, domains: Domains, samples: int) -> Proportions:
    """Proportions by the run's rule; sizes and the budget of the run are counted in the run's unit."""
    sizes: npt.NDArray[np.int64] = np.asarray(domains.sizes, np.int64)
    budget = float(samples)
    if settings.unit is Unit.TOKENS:
        budget *= domains.tokens.sum() / sizes.sum()
        sizes = domains.tokens
    if settings.rule is Rule.STRATIFIED:
        return stratified(sizes)
    if settings.rule is Rule.UNIFORM:
        return uniform(len(sizes))
    if settings.rule is Rule.TEMPERATURE:
        return temperature(sizes, settings.temperature)
    if settings.rule is Rule.UNIMAX:
        epochs = settings.max_epochs if isinstance(settings.max_epochs, float) else 1.0
        return unimax(sizes, budget, epochs)
    return check_proportions(settings.initial, domains.names, f"{INITIAL} (from {settings.source})")
