"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.run_checks import names_targets, needs_adam, needs_single_answers, needs_whole_parameters
from dataflex.runs import RunFacts
from dataflex.scoring.embedding_params import LEGACY

TARGET = "dataflex_selectors_cluster_less.selector:ClusterLessSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``cluster_less``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="cluster_less",
            target=TARGET,
            params="dataflex_selectors_cluster_less.params:ClusterLessParams",
            api=1,
            summary="Prefer samples of clusters whose representatives' gradients point where the eval set's do.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            legacy={**LEGACY, "save_interval": "finished scores are written every shard_seconds"},
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse runs whose gradients, Adam moments, targets or embeddings would not be what is meant."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    found = [*needs_single_answers(run), *names_targets(run, "cluster_less"), *needs_whole_parameters(run)]
    if run.stage == "pt" and run.params.get("span") == "prompt":
        found.append(
            Problem(
                f"component_params.span is prompt, and rows of stage: pt (from {run.origin('stage')}) have none: every "
                "token is learnt.",
                "Set span: all.",
            )
        )
    return found if run.params.get("preconditioner") == "sgd" else [*found, *needs_adam(run)]
