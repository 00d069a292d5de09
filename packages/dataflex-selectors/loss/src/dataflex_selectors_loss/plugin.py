"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Problem, hookimpl
from dataflex.run_checks import fills_a_stage, has_loss_of_each_row
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_loss.selector:LossSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``loss``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="loss",
            target=TARGET,
            params="dataflex_selectors_loss.params:LossParams",
            api=1,
            summary="Prefer samples by their loss under the current model.",
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            paper="Loshchilov & Hutter 2016, arXiv 1511.06343; draws: Kool et al. 2019, arXiv 1903.06059",
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse losses that a row does not have by itself, and a part of the pool that cannot fill a stage."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    return [*has_loss_of_each_row(run), *fills_a_stage(run)]
