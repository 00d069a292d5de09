"""The keys of a mix run that say how domains are sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.runs import TrainType


Choice = TypeVar("Choice", bound=StrEnum)


class Rule(StrEnum):
    """``mixture_sample_rule``: where the first proportions come from."""

    MIXTURE = "mixture"
    STRATIFIED = "stratified"
    UNIFORM = "uniform"
    TEMPERATURE = "temperature"
    UNIMAX = "unimax"


class Unit(StrEnum):
    """``mixture_unit``: what the proportions are shares of."""

    SAMPLES = "samples"
    TOKENS = "tokens"


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """How a mix run samples its domains.

    Attributes:
        rule: Where the first proportions come from.
        initial: ``init_mixture_proportions``, by position or by domain name; only for the rule ``mixture``.
        unit: What the proportions are shares of.
        temperature: tau of the rule ``temperature``: proportions are size^(1/tau).
        max_epochs: How often a domain's rows may be used, for all or by name; ``None`` for any number of times.
    """

    rule: Rule
    initial: Sequence[float] | Mapping[str, float] | None
    unit: Unit
    temperature: float
    max_epochs: float | Mapping[str, float] | None


def read_mixture(run: RunFile) -> MixtureSettings:
    """Read and check the keys of a mix run, as far as that goes without the data.

    Raises:
        ConfigError: names the key, the value and where it came from.
    """
    stage = str(run.llamafactory.get("stage", "sft"))
    rule = _choice(run, "mixture_sample_rule", Rule, Rule.MIXTURE)
    unit = _choice(run, "mixture_unit", Unit, Unit.TOKENS if stage == "pt" else Unit.SAMPLES)
    initial = run.ours.get("init_mixture_proportions")
    if rule is Rule.MIXTURE and initial is None:
        raise ConfigError(
            f"init_mixture_proportions is missing from {run.path.name}; mixture_sample_rule: mixture starts from it. "
            "Add it, or choose stratified or uniform."
        )
    if rule is not Rule.MIXTURE and initial is not None:
        raise ConfigError(
            f"init_mixture_proportions (from {run.origin('init_mixture_proportions')}) contradicts "
            f"mixture_sample_rule: {rule}, which has proportions of its own. Leave one of them out."
        )
    if rule is not Rule.MIXTURE and run.train_type is TrainType.MIX:
        raise ConfigError(
            f"mixture_sample_rule: {rule} keeps its proportions fixed, so component_name: "
            f"{run.ours.get('component_name')} would be ignored. Use train_type: static_mix, or the rule mixture."
        )
    return MixtureSettings(
        rule=rule,
        initial=initial,
        unit=unit,
        temperature=_positive(run, "mixture_temperature", run.ours.get("mixture_temperature", 1.0)),
        max_epochs=_epochs(run),
    )


def _choice(run: RunFile, key: str, choices: type[Choice], default: Choice) -> Choice:
    given = run.ours.get(key, default)
    try:
        return choices(given)
    except ValueError as error:
        names = [choice.value for choice in choices]
        raise ConfigError(
            f"{key}: {given!r} (from {run.origin(key)}) is not one of {', '.join(names)}.{did_you_mean(str(given), names)}"
        ) from error


def _positive(run: RunFile, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"{key}: {value!r} (from {run.origin(key)}) must be a number above 0.")
    return float(value)


def _epochs(run: RunFile) -> float | Mapping[str, float] | None:
    given = run.ours.get("mixture_max_epochs")
    if isinstance(given, Mapping):
        return {str(name): _positive(run, f"mixture_max_epochs.{name}", value) for name, value in given.items()}
    return None if given is None else _positive(run, "mixture_max_epochs", given)
