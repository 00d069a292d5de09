"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import hookimpl
from dataflex.runs import Problem, RunPlan
from dataflex.spec import ComponentSpec, Kind

TARGET = "dataflex_selectors_loss.selector:LossSelector"
PAIRED_STAGES = ("dpo", "rm", "kto")


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
            paper="Loshchilov & Hutter 2016, arXiv 1511.06343; draws: Kool et al. 2019, arXiv 1903.06059",
        )
    ]


@hookimpl
def dataflex_check_run(plan: RunPlan) -> list[Problem]:
    """Refuse stages without a next-token loss, and a part of the pool that cannot fill a stage."""
    if plan.component.kind is not Kind.SELECTOR or plan.component.target != TARGET:
        return []
    return list(_problems(plan))


def _problems(plan: RunPlan) -> Iterator[Problem]:
    if plan.stage in PAIRED_STAGES:
        yield Problem(
            f"the loss selector scores the next-token loss of single answers, and stage: {plan.stage} "
            f"(from {plan.source}) has another objective.",
            "Use stage: sft or pt, or component_name: random.",
        )
    candidates = plan.params.get("max_candidates")
    if candidates is None or plan.params.get("replacement"):
        return
    steps = plan.steps.update
    if plan.steps.train > 0:
        steps = min(steps, plan.steps.train - plan.steps.warmup)
    needed = steps * plan.samples_per_step  # of one process: a lower bound
    if candidates < needed:
        yield Problem(
            f"max_candidates={candidates} cannot fill a stage, which draws at least {needed} samples: {steps} steps of "
            f"{plan.samples_per_step} (from {plan.source}).",
            f"Raise max_candidates to {needed} times the number of processes or more, lower update_step, or set "
            "component_params.replacement: true.",
        )
