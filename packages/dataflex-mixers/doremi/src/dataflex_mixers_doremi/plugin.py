"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import compares_with_a_reference
from dataflex.runs import RunFacts

TARGET = "dataflex_mixers_doremi.mixer:DoremiMixer"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``doremi``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="doremi",
            target=TARGET,
            params="dataflex_mixers_doremi.params:DoremiParams",
            api=1,
            summary="Weigh the domains by how far the model lags behind a reference (DoReMi).",
            needs=frozenset({Need.DOMAINS, Need.DOMAIN_LOSSES, Need.REFERENCE_MODEL}),
            paper="Xie et al. 2023, arXiv 2305.10429",
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Look at the reference, as far as that goes before anything loads."""
    return list(_problems(run)) if run.component.target == TARGET else []


def _problems(run: RunFacts) -> Iterator[Problem]:
    beside = [part.component for part in run.parts if part.component.kind is not Kind.MIXER]
    changing = [other for other in beside if other.kind in (Kind.SELECTOR, Kind.WEIGHTER)]
    if changing and run.params.get("mode") == "proxy":
        other, given_by = changing[0], run.origin("component_params.mode")
        yield Problem(
            f"mode: proxy of mixer 'doremi' (from {given_by}) finds weights of the mixture as it is; beside "
            f"{other.kind} {other.name!r} they would be those of another objective.",
            "Set mode: online, or find the weights in a run of their own."
            if other.kind is Kind.SELECTOR
            else "Find the weights in a run of their own.",
        )
    yield from compares_with_a_reference(
        run, "mixer 'doremi'", "Train the reference first: train_type: static_mix, or `dataflex doremi` for all phases."
    )
