"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Problem, hookimpl
from dataflex.run_checks import needs_single_texts, needs_whole_parameters
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import INITIAL, LEGACY

TARGET = "dataflex_selectors_coincide.selector:CoincideSelector"
_LEGACY = {
    **LEGACY,
    "clustering_device": "products are made where the model is",
    "assignment_chunk_size": "pieces have the size of the memory there is",
    "density_chunk_size": "pieces have the size of the memory there is",
    "single_member_density": "the mean over all pairs of a cluster of one row is 1",
}


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``coincide``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="coincide",
            target=TARGET,
            params="dataflex_selectors_coincide.params:CoincideParams",
            api=1,
            summary="Take some rows of every cluster, more of clusters that are like others and diverse in themselves.",
            stochastic=True,
            gives_scores=True,
            paper="Lee, Li & Hwang 2024, arXiv 2406.10995",
            legacy=_LEGACY,
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse stages whose rows are pairs, a span that rows do not have, and models in pieces."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    whole = needs_whole_parameters(run) if run.params.get("embedding_model") in (INITIAL, None) else ()
    return [*needs_single_texts(run, "embeds", "span"), *whole]
