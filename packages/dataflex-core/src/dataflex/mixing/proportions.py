"""Proportions of domains: checking what a user or a mixer gives, and the rules that make them from sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError, shown
from dataflex.hints import did_you_mean

Proportions = npt.NDArray[np.float64]

TOLERANCE = 1e-6
"""How far from 1 a sum may be. More is an error, since renormalising would hide a typing error."""

PARTS = 1_000_000
"""Sampling keeps proportions in millionths, the precision of :data:`TOLERANCE`."""

_LEAST_TEMPERATURE = 1e-6

_NAMED = 12  # domains spelled out in a message


def check_proportions(values: Any, names: Sequence[str], source: str) -> Proportions:
    """Check proportions and put them in the order of the domains.

    Args:
        values: One number per domain in order (list, array, tensor), or a mapping by domain name that has all of them.
        names: The domains.
        source: Where the values came from, for the message: ``"init_mixture_proportions in run.yaml"``.

    Returns:
        Finite, non-negative, summing to 1 within :data:`TOLERANCE`; shape ``[domains]``. They are not rescaled.

    Raises:
        ConfigError: names the domains and what is wrong.
    """
    ordered = _in_order(values, names, source) if isinstance(values, Mapping) else values
    if isinstance(ordered, (str, bytes)):
        raise ConfigError(f"{source} is the text {ordered!r}, not one number per domain ({join_names(names)}).")
    try:
        given = np.array(ordered.detach().tolist() if hasattr(ordered, "detach") else ordered, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{source} is {shown(ordered)}, not one number per domain ({join_names(names)}): {error}."
        ) from error
    if given.ndim != 1 or len(given) != len(names):
        count = f"{len(given)} values" if given.ndim == 1 else f"an array of shape {list(given.shape)}"
        raise ConfigError(f"{source} has {count} for {len(names)} domains ({join_names(names)}). Give one per domain.")
    wrong = np.flatnonzero(~np.isfinite(given) | (given < 0))
    if len(wrong):
        listed = join_names([f"{names[k]}: {given[k]:g}" for k in wrong.tolist()])
        raise ConfigError(f"{source} must be finite and not negative, but has {listed}.")
    total = math.fsum(given)
    if abs(total - 1) > TOLERANCE * (1 + 1e-9):
        listed = join_names([f"{name}: {value:g}" for name, value in zip(names, given, strict=True)])
        raise ConfigError(f"{source} must sum to 1, but sums to {total:.7g} ({listed}).")
    return given


def in_millionths(proportions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Round proportions to whole millionths that sum to exactly :data:`PARTS`.

    By largest remainder, ties by index; a proportion above 0 keeps at least one millionth. Whole numbers make the
    sampler's arithmetic exact, so that it is the same in one piece or in many, and let a long schedule repeat.
    """
    given = np.asarray(proportions, dtype=np.float64)
    exact = given / math.fsum(given) * PARTS
    parts = np.maximum(np.floor(exact), given > 0).astype(np.int64)
    missing = PARTS - int(parts.sum())
    if missing > 0:
        parts[np.argsort(parts - exact, kind="stable")[:missing]] += 1
    for _ in range(-missing):  # only where tiny proportions were rounded up
        parts[np.argmax(parts)] -= 1
    return parts


def stratified(sizes: npt.ArrayLike) -> Proportions:
    """Proportions of the domains' sizes."""
    return _normalised(_sizes(sizes))


def uniform(domains: int) -> Proportions:
    """The same proportion for each of ``domains`` domains."""
    return _normalised(np.ones(domains))


def temperature(sizes: npt.ArrayLike, tau: float) -> Proportions:
    """Proportions of ``size ** (1 / tau)``: 1 is :func:`stratified`; the larger, the closer to :func:`uniform`.

    Raises:
        ConfigError: unless ``tau`` is at least 1e-6; far below, logarithms divided by it leave the numbers there are.
    """
    if not tau >= _LEAST_TEMPERATURE:
        raise ConfigError(f"the temperature of a mixture must be above 0, at least {_LEAST_TEMPERATURE}, not {tau}.")
    with np.errstate(divide="ignore"):
        logs = np.log(_sizes(sizes)) / tau
    return _normalised(np.exp(logs - logs.max()))


def unimax(sizes: npt.ArrayLike, budget: float, epochs: float) -> Proportions:
    """As uniform as possible while no domain is read more than ``epochs`` times (Chung et al. 2023, arXiv 2304.09151).

    Args:
        sizes: Rows (or tokens) of each domain.
        budget: Rows (or tokens) the run will draw.
        epochs: Most passes over one domain.

    Returns:
        Proportions of the budget. Those of ``epochs`` passes over everything where the budget exceeds that.

    Raises:
        ConfigError: unless budget and epochs are above 0.
    """
    if not budget > 0 or not epochs > 0:
        raise ConfigError(f"unimax needs a budget and epochs above 0, not {budget} and {epochs}.")
    most = _sizes(sizes) * epochs
    given, left = np.zeros(len(most)), float(budget)
    smallest_first = np.argsort(most, kind="stable")
    for place, domain in enumerate(smallest_first):
        given[domain] = min(most[domain], left / (len(most) - place))
        left -= given[domain]
    return _normalised(given)


def join_names(names: Sequence[str]) -> str:
    """Names for a message; a long list is cut short."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _in_order(values: Mapping[Any, Any], names: Sequence[str], source: str) -> list[Any]:
    unknown = [str(name) for name in values if name not in names]
    if unknown:
        hint = did_you_mean(unknown[0], names)
        raise ConfigError(f"{source} names the unknown domain {unknown[0]!r}.{hint} Domains: {join_names(names)}.")
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"{source} has no value for {join_names(missing)}. Give every domain one, 0 included.")
    return [values[name] for name in names]


def _sizes(sizes: npt.ArrayLike) -> Proportions:
    given = np.asarray(sizes, dtype=np.float64)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ConfigError(f"sizes of domains must be finite, not negative and not all 0: {given.tolist()}.")
    return given


def _normalised(weights: Proportions) -> Proportions:
    return weights / math.fsum(weights)
