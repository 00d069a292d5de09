"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Problem, hookimpl
from dataflex.run_checks import fills_a_stage, needs_single_answers
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_delta_loss.selector:DeltaLossSelector"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``delta_loss``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="delta_loss",
            target=TARGET,
            params="dataflex_selectors_delta_loss.params:DeltaLossParams",
            api=1,
            summary="Prefer samples whose loss has fallen since the first boundary, first the most, at last the least.",
            stochastic=True,
            gives_scores=True,
            legacy={
                "score_batch_size": "batches follow token_budget",
                "score_num_workers": "rows are tokenised already",
            },
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse stages without a next-token loss, a part of the pool that cannot fill a stage, and too few boundaries."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    return [*needs_single_answers(run), *fills_a_stage(run), *_has_boundaries(run)]


def _has_boundaries(run: RunFacts) -> Iterator[Problem]:
    steps = run.steps
    if run.scores_only:
        if not steps.warmup:
            yield Problem(
                "the delta_loss selector scores a row by how far its loss has fallen since the first boundary of a "
                "run, and there is none.",
                "Give a checkpoint of a run with delta_loss: --checkpoint.",
            )
        return
    if not steps.update or (steps.times < 0 and not steps.train):
        return  # not known before the pool is: the selector sees to it
    total = steps.train or steps.warmup + steps.update * steps.times
    boundaries = -(-(total - steps.warmup) // steps.update)
    if -(-boundaries // run.every) < 2:
        yield Problem(
            f"the delta_loss selector compares losses with those of its first boundary, and this run asks it at "
            f"{boundaries} boundary (update_times or train_step, from {run.origin('update_times')}).",
            "Set update_times to 4 or more, or component_name: random.",
        )
