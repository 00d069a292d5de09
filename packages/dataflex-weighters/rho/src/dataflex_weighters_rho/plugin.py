"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import compares_with_a_reference, fills_a_stage, needs_single_answers
from dataflex.runs import RunFacts

WEIGHTER = "dataflex_weighters_rho.weighter:RhoWeighter"
SELECTOR = "dataflex_weighters_rho.selector:RhoSelector"
_PAPER = "Mindermann et al. 2022, arXiv 2206.07137"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The weighter and the selector ``rho``."""
    return [
        ComponentSpec(
            kind=Kind.WEIGHTER,
            name="rho",
            target=WEIGHTER,
            params="dataflex_weighters_rho.params:RhoParams",
            api=1,
            summary="Weigh samples by how far their loss lies above a reference model's.",
            needs=frozenset({Need.SAMPLE_LOSSES, Need.REFERENCE_MODEL}),
            paper=_PAPER,
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="rho",
            target=SELECTOR,
            params="dataflex_weighters_rho.params:RhoSelectorParams",
            api=1,
            summary="Choose samples whose loss lies furthest above a reference model's (RHO-LOSS).",
            needs=frozenset({Need.REFERENCE_MODEL}),
            stochastic=True,
            paper=_PAPER,
            gives_scores=True,
        ),
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Look at the reference, as far as that goes before anything loads, and at the stage."""
    return list(_problems(run)) if run.component.target in (WEIGHTER, SELECTOR) else []


def _problems(run: RunFacts) -> Iterator[Problem]:
    who = f"{run.component.kind} 'rho'"
    yield from compares_with_a_reference(run, who, "Train the reference first, on rows that were held back.")
    if run.component.kind is Kind.SELECTOR:
        yield from needs_single_answers(run)
        yield from fills_a_stage(run)
