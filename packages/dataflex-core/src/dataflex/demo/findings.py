"""Sentences computed from the numbers of the table; nothing else is claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dataflex.demo.results import RunResult

_SAME = 0.0005
"""Half of the last digit shown."""


def findings(results: Sequence[RunResult], baseline: str) -> list[str]:
    """Compare every run with the baseline of as many steps, and with the baseline's longer runs.

    Args:
        results: The runs.
        baseline: Name of the run that the others are measured against; its component may also have longer runs.
    """
    base = next(result for result in results if result.name == baseline)
    longer = [run for run in results if run.component == base.component and run.steps > base.steps]
    chosen = [run for run in results if run.component != base.component]
    sentences = []
    for run in chosen:
        sentences.append(_beside_baseline(run, base))
        sentences.extend(_beside_longer(run, longer))
    if not chosen:
        sentences.extend(_beside_longer(base, longer))
    sentences.append("Each line is a single run of one seed; repeat with another --seed to see how far it scatters.")
    return sentences


def _beside_baseline(run: RunResult, base: RunResult) -> str:
    same = f"the same {run.steps}" if run.steps == base.steps else f"{run.steps} and {base.steps}"
    return (
        f"{run.name} and {base.name}, {same} steps: {_compared(run, base)}; "
        f"scoring took {run.scoring_seconds:.1f} s beside {run.training_seconds:.1f} s of training."
    )


def _beside_longer(run: RunResult, longer: Sequence[RunResult]) -> Iterator[str]:
    for long in longer:
        yield (
            f"{long.name}, {long.steps} steps: {_compared(long, run)}; training and scoring took "
            f"{long.working_seconds:.1f} s, those of {run.name} {run.working_seconds:.1f} s."
        )


def _compared(run: RunResult, reference: RunResult) -> str:
    target = _difference(run.target_loss, reference.target_loss)
    others = _difference(run.others_loss, reference.others_loss)
    return f"{run.name} is {target} {reference.name} on docstrings and {others} it on the other domains"


def _difference(loss: float, reference: float) -> str:
    gap = loss - reference
    if abs(gap) < _SAME:
        return "level with"
    return f"{abs(gap):.3f} {'worse than' if gap > 0 else 'better than'}"
