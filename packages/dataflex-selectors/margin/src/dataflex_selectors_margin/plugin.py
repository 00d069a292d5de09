"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import fills_a_stage, has_loss_of_each_row, needs_pairs
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_margin.selector:MarginSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``margin``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="margin",
            target=TARGET,
            params="dataflex_selectors_margin.params:MarginParams",
            api=1,
            summary="Choose pairs of stage dpo or rm by how far the model tells chosen from rejected.",
            needs=frozenset({Need.PREFERENCES}),
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            paper="Rafailov et al. 2023, arXiv 2305.18290 (the implicit reward)",
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse rows without a second answer, losses that a pair does not have by itself, and a part that is too small."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    return [*needs_pairs(run), *has_loss_of_each_row(run), *fills_a_stage(run)]
