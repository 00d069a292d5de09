"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``prune``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="prune",
            target="dataflex_selectors_prune.selector:PruneSelector",
            params="dataflex_selectors_prune.params:PruneParams",
            api=1,
            summary="Leave out part of the rows of low loss in each pass, and weigh the others of them up: no bias.",
            needs=frozenset({Need.SAMPLE_LOSSES}),
            stochastic=True,
            gives_weights=True,
            paper="Qin et al. 2024, arXiv 2303.04947; score: es: Cheng et al. 2025, arXiv 2509.23461",
            refused={"passes": "prune reads the whole pool, pass after pass; how many come of the number of steps."},
        )
    ]
