"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.runs import RunFacts

TARGET = "dataflex_mixers_ado.mixer:AdoMixer"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``ado``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="ado",
            target=TARGET,
            params="dataflex_mixers_ado.params:AdoParams",
            api=1,
            summary="Adaptive data optimization: more of the domains that are learned fastest, by power laws.",
            needs=frozenset({Need.DOMAINS, Need.DOMAIN_LOSSES}),
            paper="Jiang et al. 2024, arXiv 2410.11820",
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse a run that ends before the first fit, before anything loads."""
    mine = [run.seen_from(part) for part in run.parts if part.component.target == TARGET]
    return [problem for one in mine for problem in _too_short(one)]


def _too_short(run: RunFacts) -> Iterator[Problem]:
    steps, first = run.steps, int(run.params["first_fit"])
    if steps.train <= 0 and steps.times < 0:
        return
    past = (steps.train if steps.train > 0 else steps.warmup + steps.update * steps.times) - steps.warmup
    if first > past:
        yield Problem(
            f"first_fit: {first} of mixer 'ado' (from {run.origin('component_params.first_fit')}) is past the end: the "
            f"run has {past} steps past its warm-up, so the proportions would never move.",
            "Train longer, or lower first_fit with ignore_steps and block_steps; good fits take thousands of steps.",
        )
