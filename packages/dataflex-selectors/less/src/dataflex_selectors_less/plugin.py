"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import fills_a_stage, needs_adam, needs_single_answers, needs_whole_parameters
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_less.selector:LessSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``less``.

    It needs the optimizer's state too, but not with ``preconditioner: sgd``: see :func:`dataflex_check_run`.
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
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse runs whose per-sample gradients, Adam moments or subtasks would not be what LESS means."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    found = [*needs_single_answers(run), *fills_a_stage(run), *_subtasks(run), *needs_whole_parameters(run)]
    return found if run.params.get("preconditioner") == "sgd" else [*found, *needs_adam(run)]


def _subtasks(run: RunFacts) -> Iterator[Problem]:
    given = run.arguments.get("eval_dataset")
    listed = given if isinstance(given, list) else str(given or "").split(",")
    names = [str(name).strip() for name in listed]
    unknown = [name for name in run.params.get("targets") or () if given and name not in names]
    if len(names) > 1 and not run.arguments.get("eval_on_each_dataset"):
        yield Problem(
            f"eval_dataset names {len(names)} data sets (from {run.source}), which LlamaFactory merges into one, so "
            "LESS could not tell its subtasks apart.",
            "Set eval_on_each_dataset: true, or name one data set.",
        )
    targets = list(run.params.get("targets") or ())
    twice = [name for name in dict.fromkeys(targets) if targets.count(name) > 1]
    if twice:
        yield Problem(
            f"component_params.targets (from {run.source}) names {', '.join(twice)} more than once, but each eval set "
            "counts once.",
            "Name it once. To let it count more, list its file under a second name in dataset_info.json.",
        )
    if unknown:
        yield Problem(
            f"component_params.targets names {', '.join(unknown)}, which eval_dataset (from {run.source}) does not.",
            "Correct the name, or add it to eval_dataset.",
        )
