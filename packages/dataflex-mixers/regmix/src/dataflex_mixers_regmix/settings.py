"""What is looked for, as a run file says it under ``regmix``, or the command line of ``regmix fit``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex import ConfigError
from dataflex.hints import did_you_mean
from dataflex_mixers_regmix.search import Wanted

Floats = npt.NDArray[np.float64]

SECTION = "regmix"


class Prior(StrEnum):
    """Priors that need no numbers."""

    TOKENS = "tokens"
    UNIFORM = "uniform"


OBJECTIVE = ("targets", "prior", "tokens", "wanted_tokens", "kl", "repeats")
"""The keys that say what is looked for."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is looked for.

    Attributes:
        targets: Eval sets with their weights; ``None``: all, equal.
        prior: The mixture that the answer is drawn towards: by tokens, uniform, or shares by domain.
        tokens: Trained tokens of each domain; ``None`` where they are read from the data.
        wanted_tokens: Tokens of the final run; ``None``: from its steps, or no caps.
        kl: Factor of KL(p | prior).
        repeats: How often a domain's rows may be read.
        source: Where this was written, for messages.
    """

    targets: Mapping[str, float] | None = None
    prior: Prior | Mapping[str, float] = Prior.TOKENS
    tokens: Mapping[str, float] | None = None
    wanted_tokens: float | None = None
    kl: float = 0.05
    repeats: float = 4.0
    source: str = ""

    def wanted(self, domains: Sequence[str], sets: Sequence[str], tokens: Mapping[str, float] | None = None) -> Wanted:
        """What is looked for, of these domains and eval sets.

        Args:
            domains: Their names, in the order of the mixtures.
            sets: The eval sets, in the order of the losses.
            tokens: Trained tokens of each domain, where ``tokens`` does not say them.

        Raises:
            ConfigError: for names that are not there, or a prior that cannot be had.
        """
        tokens = self.tokens if self.tokens is not None else tokens
        most_K = np.ones(len(domains))
        if tokens is not None:
            tokens_K = self._of(tokens, domains, "tokens", "domain")
            if self.wanted_tokens is not None:
                most_K = self.repeats * tokens_K / self.wanted_tokens
        return Wanted(
            prior_K=self._prior(domains, tokens), weights_M=self.weights(sets), kl=self.kl, most_K=np.minimum(most_K, 1)
        )

    def weights(self, sets: Sequence[str]) -> Floats:
        """Weights of the eval sets, which sum to 1; 0 for one that is no target.

        Raises:
            ConfigError: for a target that is no eval set.
        """
        if self.targets is None:
            return np.full(len(sets), 1 / len(sets))
        for name in self.targets:
            if name not in sets:
                raise ConfigError(
                    f"targets.{name} (from {self.source}) is no eval set; there are {', '.join(sets)}."
                    + did_you_mean(name, sets)
                )
        weights = np.array([float(self.targets.get(name, 0.0)) for name in sets])
        normed: Floats = weights / weights.sum()
        return normed

    def _prior(self, domains: Sequence[str], tokens: Mapping[str, float] | None) -> Floats:
        if isinstance(self.prior, Mapping):
            shares = self._of(self.prior, domains, "prior", "domain")
        elif self.prior is Prior.UNIFORM:
            shares = np.ones(len(domains))
        elif tokens is None:
            raise ConfigError(
                f"prior: tokens (from {self.source}) needs the tokens of each domain: give each tokens.NAME=NUMBER, "
                "prior=uniform, or prior.NAME=SHARE."
            )
        else:
            shares = self._of(tokens, domains, "tokens", "domain")
        normed: Floats = shares / shares.sum()
        return normed

    def _of(self, given: Mapping[str, float], names: Sequence[str], key: str, what: str) -> Floats:
        """Numbers by name, in the order of the names."""
        if sorted(given) != sorted(names):
            raise ConfigError(
                f"{key} (from {self.source}) names {', '.join(given)}, but there are {', '.join(names)}. Give each "
                f"{what} one number."
            )
        return np.array([float(given[name]) for name in names])


def read_settings(section: Mapping[str, Any], source: str) -> Settings:
    """Read what is looked for.

    Args:
        section: Keys and values; those that are not in :data:`OBJECTIVE` are for others to read.
        source: Where they were written.

    Raises:
        ConfigError: with every problem, one a line.
    """
    if problems := list(_problems(section, source)):
        raise ConfigError("\n".join(problems))
    given = {key: section[key] for key in OBJECTIVE if section.get(key) is not None}
    if isinstance(given.get("prior"), str):
        given["prior"] = Prior(given["prior"])
    return Settings(**given, source=source)


def _problems(section: Mapping[str, Any], source: str) -> Iterator[str]:
    for key, lowest in (("targets", 0.0), ("tokens", 0.0), ("prior", 0.0)):
        given = section.get(key)
        if given is None or (key == "prior" and isinstance(given, str)):
            continue
        if not isinstance(given, Mapping) or not given:
            yield f"{key}: {given!r} (from {source}) must be a mapping of names to numbers."
        elif any(not _is_number(value) or value < lowest for value in given.values()) or not sum(given.values()) > 0:
            yield f"{key}: {dict(given)!r} (from {source}) must hold numbers of at least 0, with a sum above 0."
    prior = section.get("prior")
    if isinstance(prior, str) and prior not in list(Prior):
        yield (
            f"prior: {prior} (from {source}) must be {', '.join(Prior)} or a mapping of domains to shares."
            + did_you_mean(prior, [known.value for known in Prior])
        )
    for key, least in (("wanted_tokens", "above 0"), ("kl", "at least 0"), ("repeats", "above 0")):
        value = section.get(key)
        if value is not None and not (_is_number(value) and (value > 0 or (value == 0 and key == "kl"))):
            yield f"{key}: {value!r} (from {source}) must be a number {least}."


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
