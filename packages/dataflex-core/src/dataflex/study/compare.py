"""Each arm beside the baseline: at equal steps, at equal cost, and what it is worth. Paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dataflex.study.curve import Curve, Outside
from dataflex.study.paired import Paired, corrected_over_arms, paired
from dataflex.study.study_run import Cost, StudyRun
from dataflex.study.verdict import verdict
from dataflex.study.worth import Worth, worth


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a study compares.

    Attributes:
        baseline: Name of the arm that the others are compared with.
        arms: Names of all arms, in the order of the file.
        seeds: The seeds.
        metric: The metric.
        lower: Whether lower values of it are better.
        cost: The unit of cost.
    """

    baseline: str
    arms: Sequence[str]
    seeds: Sequence[int]
    metric: str
    lower: bool
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the study says of one arm.

    Attributes:
        equal_steps: Beside the baseline after as many steps.
        equal_cost: Beside the baseline that cost as much.
        worth: The inequality by seed.
        others: Mean gain of each other metric of the same kind at equal cost, by its name.
        verdict: One sentence; ``""`` where the data carries none.
    """

    equal_steps: Paired
    equal_cost: Paired
    worth: Mapping[int, Worth]
    others: Mapping[str, float]
    verdict: str


def compare(runs: Sequence[StudyRun], question: Question) -> dict[str, Comparison]:
    """Compare every arm with the baseline.

    Args:
        runs: All runs of the study, finished or not.
        question: What is compared.

    Returns:
        By arm, the baseline left out.
    """
    by_arm = {arm: {run.seed: run for run in runs if run.arm == arm and run.name == arm} for arm in question.arms}
    lengths = {
        seed: [run for run in runs if run.arm == question.baseline and run.seed == seed] for seed in question.seeds
    }
    arms = [arm for arm in question.arms if arm != question.baseline]
    steps = {arm: _beside(by_arm[arm], lengths, question, _steps, question.metric) for arm in arms}
    costs = {arm: _beside(by_arm[arm], lengths, question, _cost_in(question.cost), question.metric) for arm in arms}
    steps, costs = corrected_over_arms(steps), corrected_over_arms(costs)
    found = {}
    for arm in arms:
        others = _others(by_arm[arm], lengths, question)
        found[arm] = Comparison(
            equal_steps=steps[arm],
            equal_cost=costs[arm],
            worth=_worth(by_arm[arm], lengths, question),
            others=others,
            verdict=verdict(arm, question.baseline, costs[arm], others),
        )
    return found


def other_metrics(runs: Sequence[StudyRun], metric: str) -> list[str]:
    """Metrics of the other eval sets: those that end in the same word, such as ``loss``."""
    kind = metric.rpartition("_")[2]
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return [name for name in names if name != metric and name.startswith("eval_") and name.rpartition("_")[2] == kind]


Place = Callable[[StudyRun], float | None]


def _steps(run: StudyRun) -> float | None:
    return run.steps


def _cost_in(unit: Cost) -> Place:
    return lambda run: run.cost.get(unit.value)


def _curve(runs: Sequence[StudyRun], place: Place, metric: str, question: Question) -> Curve:
    return Curve.through((place(run), _value(run, metric, question)) for run in runs)


def _value(run: StudyRun, metric: str, question: Question) -> float | None:
    return run.value if metric == question.metric else run.number(metric)


def _beside(
    arm: Mapping[int, StudyRun],
    lengths: Mapping[int, Sequence[StudyRun]],
    question: Question,
    place: Place,
    metric: str,
) -> Paired:
    """An arm beside the baseline of the same seed at the same place of its curve."""
    baseline: dict[int, float] = {}
    values: dict[int, float] = {}
    outside: dict[Outside, list[int]] = {side: [] for side in Outside}
    for seed in question.seeds:
        run, curve = arm.get(seed), _curve(lengths[seed], place, metric, question)
        value, at = (None, None) if run is None else (_value(run, metric, question), place(run))
        if value is None or at is None or not curve.points:
            continue
        there = curve.at(at)
        if isinstance(there, Outside):
            outside[there].append(seed)
        else:
            baseline[seed], values[seed] = there, value
    found = paired(baseline, values, lower=question.lower)
    dearer, cheaper = outside[Outside.ABOVE], outside[Outside.BELOW]
    excluded = len(question.seeds) - found.n - len(dearer) - len(cheaper)
    return replace(found, dearer=dearer, cheaper=cheaper, excluded=excluded)


def _others(
    arm: Mapping[int, StudyRun], lengths: Mapping[int, Sequence[StudyRun]], question: Question
) -> dict[str, float]:
    found = {}
    for metric in other_metrics(list(arm.values()), question.metric):
        gains = _beside(arm, lengths, question, _cost_in(question.cost), metric).gains
        if gains:
            found[metric] = statistics.fmean(gains)
    return found


def _worth(
    arm: Mapping[int, StudyRun], lengths: Mapping[int, Sequence[StudyRun]], question: Question
) -> dict[int, Worth]:
    found = {}
    for seed in question.seeds:
        run = arm.get(seed)
        cost = None if run is None else run.cost.get(question.cost.value)
        if run is None or run.value is None or not run.steps or cost is None:
            continue
        deciding = run.deciding.get(question.cost.value) or 0.0
        judged = worth(
            _curve(lengths[seed], _steps, question.metric, question),
            value=run.value,
            steps=run.steps,
            training=cost - deciding,
            deciding=deciding,
            lower=question.lower,
        )
        if judged is not None:
            found[seed] = judged
    return found
