"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import names_targets, needs_adam, needs_single_answers, needs_whole_parameters
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import LEGACY

TARGET = "dataflex_selectors_influence.selector:InfluenceSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``influence``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="influence",
            target=TARGET,
            params="dataflex_selectors_influence.params:InfluenceParams",
            api=1,
            summary="Prefer samples like those whose gradient, seen in training, pointed where the eval set's does.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper="after Xia et al. 2024, arXiv 2402.04333",
            legacy=LEGACY,
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse runs in which no labels could be made, or where they would not mean what they should."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    found = [*needs_single_answers(run), *names_targets(run, "influence"), *needs_whole_parameters(run)]
    return [*found, *(needs_adam(run) if _linear(run) else _warm_up(run)), *_refreshed(run), *_compiled(run)]


def _linear(run: RunFacts) -> bool:
    return run.params.get("preconditioner") == "linear"


def _warm_up(run: RunFacts) -> Iterator[Problem]:
    if run.steps.warmup == 0 and not run.scores_only:
        yield Problem(
            "the influence selector learns from the rows that training has read, and before the first boundary at "
            "warmup_step: 0 there are none.",
            "Set warmup_step above 0, to 32 rows or more.",
        )


def _refreshed(run: RunFacts) -> Iterator[Problem]:
    refresh = run.params.get("refresh")
    if _linear(run) and refresh is not None and 0 < run.steps.warmup <= refresh and not run.scores_only:
        yield Problem(
            f"preconditioner: linear makes its first direction after refresh={refresh} steps, so there is no label "
            f"before the first boundary at warmup_step: {run.steps.warmup} (from {run.origin('warmup_step')}).",
            "Set refresh below warmup_step.",
        )


def _compiled(run: RunFacts) -> Iterator[Problem]:
    for key in ("torch_compile", "use_unsloth"):
        if run.arguments.get(key) and not run.scores_only:
            yield Problem(
                f"{key} (from {run.origin(key)}) computes layers otherwise than by their own forward, so influence "
                "would not see the gradients of their rows.",
                f"Unset {key}.",
            )
