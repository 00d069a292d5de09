"""The keys of a mix run that say how domains are sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from dataflex.config.gathering import Gathered
from dataflex.config.keys import COMPONENTS
from dataflex.config.numbers import is_number
from dataflex.config.run import RunFile
from dataflex.config.weights_file import WeightsFile, names_file, read_weights_file
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.kinds import Kind
from dataflex.runs import TrainType

Choice = TypeVar("Choice", bound=StrEnum)

INITIAL = "init_mixture_proportions"
RULE = "mixture_sample_rule"

STATIC = "static"
"""The mixer that keeps the first proportions."""

LEAST_TEMPERATURE = 1e-6
"""Logarithms of sizes are divided by the temperature: far below this, the quotients leave the numbers there are."""


class Rule(StrEnum):
    """``mixture_sample_rule``: where the first proportions come from."""

    MIXTURE = "mixture"
    STRATIFIED = "stratified"
    UNIFORM = "uniform"
    TEMPERATURE = "temperature"
    UNIMAX = "unimax"


class Unit(StrEnum):
    """``mixture_unit``: what proportions are shares of."""

    SAMPLES = "samples"
    TOKENS = "tokens"


class OnExhausted(StrEnum):
    """``mixture_on_exhausted``: what happens when a domain is due that has been read ``mixture_max_epochs`` times."""

    REDISTRIBUTE = "redistribute"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """How a mix run samples its domains.

    Attributes:
        rule: Where the first proportions come from.
        initial: ``init_mixture_proportions``, by position or by domain name, or read from the file it names; only for
            the rule ``mixture``.
        unit: What the proportions are shares of.
        temperature: tau of the rule ``temperature``: proportions are size^(1/tau).
        max_epochs: How often a domain's rows may be used, for all or by name; ``None`` for any number of times.
        on_exhausted: What to do when that is reached.
        source: Where the keys came from, for messages.
        found: The file that ``initial`` was read from, if it was.
    """

    rule: Rule
    initial: Sequence[float] | Mapping[str, float] | None = None
    unit: Unit = Unit.SAMPLES
    temperature: float = 1.0
    max_epochs: float | Mapping[str, float] | None = None
    on_exhausted: OnExhausted = OnExhausted.REDISTRIBUTE
    source: str = "the run file"
    found: WeightsFile | None = None


def read_mixture(run: RunFile) -> MixtureSettings:
    """Read and check the keys of a mix run, as far as that goes without the data.

    Raises:
        ConfigError: names the key, the value and where it came from.
    """
    problems = Gathered()
    settings = read_what_fits(run, problems)
    problems.refuse()
    return settings


def read_what_fits(run: RunFile, problems: Gathered) -> MixtureSettings:
    """As :func:`read_mixture`, but go on after what is wrong: it is as if it were left out.

    Args:
        run: The run file.
        problems: Takes all that is wrong.
    """
    stage = str(run.llamafactory.get("stage", "sft"))
    unit, temperature, exhausted = Unit.TOKENS if stage == "pt" else Unit.SAMPLES, 1.0, OnExhausted.REDISTRIBUTE
    rule: Rule | None = None
    initial: Sequence[float] | Mapping[str, float] | None = None
    max_epochs: float | Mapping[str, float] | None = None
    found: WeightsFile | None = None
    with problems.taking():
        rule = _choice(run, RULE, Rule, Rule.MIXTURE)
    with problems.taking():
        given = run.ours.get(INITIAL)
        found = read_weights_file(given, run, INITIAL) if names_file(given) else None
        initial = _initial(run, given) if found is None else found.shares
    with problems.taking():
        max_epochs = _max_epochs(run)
    if rule is not None:
        _check_rule(run, rule, max_epochs, problems)
    with problems.taking():
        unit = _choice(run, "mixture_unit", Unit, unit)
    with problems.taking():
        temperature = _temperature(run)
    with problems.taking():
        exhausted = _choice(run, "mixture_on_exhausted", OnExhausted, exhausted)
    return MixtureSettings(
        rule=rule or Rule.MIXTURE,
        initial=initial,
        unit=unit,
        temperature=temperature,
        max_epochs=max_epochs,
        on_exhausted=exhausted,
        source=run.origin(INITIAL),
        found=found,
    )


def _check_rule(run: RunFile, rule: Rule, max_epochs: Any, problems: Gathered) -> None:
    """Check what else a run says against its ``mixture_sample_rule``."""
    initial = run.ours.get(INITIAL)
    with problems.taking():
        if rule is Rule.MIXTURE and initial is None:
            others = ", ".join(other for other in Rule if other is not Rule.MIXTURE)
            advice = (
                f"choose another rule ({others})"
                if not _moves(run)
                else f"train_type: static_mix for another rule ({others})"
            )
            raise ConfigError(
                f"{INITIAL} is missing from {run.path.name}; mixture_sample_rule: mixture starts from it. Add one "
                f"number per data set, or {advice}."
                + (run.misspelt(INITIAL) or ("" if RULE in run.ours else run.misspelt(RULE)))
            )
    with problems.taking():
        if rule is not Rule.MIXTURE and initial is not None:
            raise ConfigError(
                f"{INITIAL} (from {run.origin(INITIAL)}) contradicts mixture_sample_rule: {rule}, which has "
                "proportions of its own. Leave one of them out."
            )
    with problems.taking():
        if rule is not Rule.MIXTURE and _moves(run):
            named, fixed = f"component_name: {run.ours.get('component_name')}", "train_type: static_mix"
            if run.train_type is TrainType.COMPOSED:
                named, fixed = f"components.mixer: {_mixer(run)}", f"components.mixer: {STATIC}"
            raise ConfigError(
                f"mixture_sample_rule: {rule} keeps its proportions fixed, so {named} would be ignored. Use {fixed} "
                f"for fixed proportions, or mixture_sample_rule: mixture with {INITIAL}."
            )
    with problems.taking():
        if rule is Rule.UNIMAX and isinstance(max_epochs, Mapping):
            raise ConfigError(
                f"mixture_max_epochs (from {run.origin('mixture_max_epochs')}) must be one number for "
                "mixture_sample_rule: unimax, which uses it for every domain."
            )


def _moves(run: RunFile) -> bool:
    """Whether a mixer moves the proportions."""
    if run.train_type is TrainType.COMPOSED:
        return bool(_mixer(run) != STATIC)
    return run.train_type is TrainType.MIX


def _mixer(run: RunFile) -> Any:
    """The mixer that is named under ``components``."""
    given = run.ours.get(COMPONENTS)
    mixer = given.get(Kind.MIXER) if isinstance(given, Mapping) else None
    return mixer.get("name") if isinstance(mixer, Mapping) else mixer


def _initial(run: RunFile, given: Any) -> Sequence[float] | Mapping[str, float] | None:
    if given is None:
        return None
    values = list(given.values()) if isinstance(given, Mapping) else given
    if not isinstance(values, list) or not all(is_number(value) for value in values):
        raise ConfigError(
            f"{INITIAL}: {given!r} (from {run.origin(INITIAL)}) must be a list of finite numbers, a mapping of "
            "data sets to them, or from:PATH."
        )
    return {str(name): value for name, value in given.items()} if isinstance(given, Mapping) else values


def _choice(run: RunFile, key: str, choices: type[Choice], default: Choice) -> Choice:
    given = run.ours.get(key, default)
    try:
        return choices(given)
    except ValueError as error:
        names = [choice.value for choice in choices]
        hint = did_you_mean(str(given), names)
        raise ConfigError(
            f"{key}: {given!r} (from {run.origin(key)}) is not one of {', '.join(names)}.{hint}"
        ) from error


def _positive(run: RunFile, key: str, value: Any) -> float:
    if not is_number(value) or not value > 0:
        raise ConfigError(f"{key}: {value!r} (from {run.origin(key)}) must be a number above 0.")
    return float(value)


def _temperature(run: RunFile) -> float:
    key = "mixture_temperature"
    value = _positive(run, key, run.ours.get(key, 1.0))
    if value < LEAST_TEMPERATURE:
        raise ConfigError(
            f"{key}: {value!r} (from {run.origin(key)}) must be a number of at least {LEAST_TEMPERATURE}."
        )
    return value


def _max_epochs(run: RunFile) -> float | Mapping[str, float] | None:
    key = "mixture_max_epochs"
    given = run.ours.get(key)
    if isinstance(given, Mapping):
        return {str(name): _positive(run, f"{key}.{name}", value) for name, value in given.items()}
    return None if given is None else _positive(run, key, given)
