"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import fills_a_stage, names_targets, needs_adam, needs_single_answers, needs_whole_parameters
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_less.selector:LessSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``less``, and ``icons``, which is the same class with other defaults.

    They need the optimizer's state too, but not with ``preconditioner: sgd``: see :func:`dataflex_check_run`.
    """
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="less",
            target=TARGET,
            params="dataflex_selectors_less.params:LessParams",
            api=1,
            summary="Prefer samples whose gradient points where the eval set's does.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            gives_weights=False,
            paper="Xia et al. 2024, arXiv 2402.04333",
        ),
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="icons",
            target=TARGET,
            params="dataflex_selectors_less.params:IconsParams",
            api=1,
            summary="Prefer samples that most of several eval sets count among their best, by gradients.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper="ICONS: arXiv 2501.00654",
        ),
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse runs whose per-sample gradients, Adam moments or subtasks would not be what LESS means."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    found = [*needs_single_answers(run), *fills_a_stage(run), *names_targets(run, "LESS"), *needs_whole_parameters(run)]
    return found if run.params.get("preconditioner") == "sgd" else [*found, *needs_adam(run)]
