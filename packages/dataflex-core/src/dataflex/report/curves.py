"""Curves of what a component reports as a list at each boundary, such as a number for each target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataflex.kinds import Kind
from dataflex.report.run import Floats, RunData, is_number

MOST = 24
"""Curves of one plot: a longer list shows its first ones."""

OF_PLANS = frozenset(
    {
        *("domains", "proportions", "samples", "realised_samples", "realised_tokens", "realised_so_far", "epochs"),
        *("domain_losses", "domain_tokens", "pool_tokens"),
    }
)
"""Lists that the framework records, a number for each domain: they have plots and tables of their own."""


def listed(run: RunData) -> list[str]:
    """Names of a component's list metrics, in the order they first come in.

    A mixer's lists with a number for each domain are drawn as such, by its log.
    """
    names: dict[str, None] = {}
    for decision in run.decisions:
        mixes, domains = decision.kind is Kind.MIXER, len(run.domains)
        for name, value in decision.metrics.items():
            if name not in OF_PLANS and _numbers(value) and not (mixes and len(value) == domains):
                names[name] = None
    return list(names)


def curves(run: RunData, name: str) -> tuple[Floats, Floats, int]:
    """A list metric over the run.

    Returns:
        Steps, shape ``[n]``; values, shape ``[n, curves]``, NaN where a list was shorter or held no number; and how
        long the longest list was.
    """
    found = [(each.step, each.metrics[name]) for each in run.decisions if _numbers(each.metrics.get(name))]
    longest = max(len(values) for _, values in found)
    table = np.full((len(found), min(longest, MOST)), np.nan)
    for row, (_, values) in enumerate(found):
        known = [value if is_number(value) else np.nan for value in values[:MOST]]
        table[row, : len(known)] = known
    return np.array([step for step, _ in found], np.float64), table, longest


def _numbers(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(is_number(each) for each in value)
        and all(each is None or is_number(each) for each in value)
    )
