"""What a study says of its arms, from runs as study.json has them."""

from __future__ import annotations

import math

import pytest

from dataflex.study.compare import Question, compare, other_metrics
from dataflex.study.study_run import Cost, Status, StudyRun

RANDOM = {1: 4.70, 2: 4.90, 3: 4.60, 4: 4.80, 5: 5.00}
ARM = {1: 4.65, 2: 4.84, 3: 4.57, 4: 4.73, 5: 4.96}


def run(arm, seed, value, *, steps=100, deciding=0.0, length=1, status=Status.DONE, **metrics):
    """A run whose steps took a second each."""
    numbers = {"eval_a_loss": value, **metrics}
    return StudyRun(
        arm=arm,
        seed=seed,
        length=length,
        steps=steps,
        status=status,
        metrics=numbers,
        metric=value,
        cost={"steps": steps + deciding, "seconds": steps + deciding, "cpu_seconds": None},
        deciding={"steps": deciding, "seconds": deciding, "cpu_seconds": None},
    )


def question(*arms, seeds=(1, 2, 3, 4, 5), lower=True, cost=Cost.STEPS):
    return Question(
        baseline="random", arms=("random", *arms), seeds=seeds, metric="eval_a_loss", lower=lower, cost=cost
    )


def lengths(seeds, curve):
    return [
        run("random", seed, base + offset, steps=steps, length=steps / 100)
        for seed, base in seeds.items()
        for steps, offset in curve.items()
    ]


def test_equal_steps_pair_the_runs_of_a_seed():
    runs = [run("random", seed, value) for seed, value in RANDOM.items()]
    runs += [run("arm", seed, value) for seed, value in ARM.items()]
    found = compare(runs, question("arm"))["arm"]
    assert found.equal_steps.mean == pytest.approx(0.05)
    assert found.equal_steps.p_holm == pytest.approx(0.0021106, abs=1e-7)
    assert found.equal_cost.mean == pytest.approx(0.05)
    assert found.verdict == "arm is better than random at equal cost by 0.05 (5 seeds, p = 0.0021)"


def test_equal_cost_is_read_off_the_baselines_lengths():
    runs = lengths({1: 4.70}, {50: 0.10, 100: 0.0, 200: -0.10, 400: -0.15})
    runs.append(run("arm", 1, 4.62, deciding=41.4214))
    found = compare(runs, question("arm", seeds=(1,)))["arm"]
    assert found.equal_cost.gains == pytest.approx([0.03], abs=1e-6)
    assert found.equal_steps.gains == pytest.approx([0.08])
    assert found.worth[1].rho == pytest.approx(1.74110, abs=1e-5) and found.worth[1].pays
    assert found.verdict == ""  # one seed says nothing


def test_an_arm_of_its_own_length_is_compared_at_that_many_steps():
    runs = lengths({1: 4.70}, {100: 0.0, 200: -0.10})
    runs.append(run("arm", 1, 4.5, steps=200, length=None))
    assert compare(runs, question("arm", seeds=(1,)))["arm"].equal_steps.gains == pytest.approx([0.1])
    runs[-1] = run("arm", 1, 4.5, steps=400, length=None)
    found = compare(runs, question("arm", seeds=(1,)))["arm"].equal_steps
    assert found.n == 0 and found.dearer == [1]


def test_a_failed_run_and_one_without_a_number_are_excluded_with_a_count():
    runs = [run("random", seed, value) for seed, value in RANDOM.items()]
    values = {1: 4.69, 2: 4.88, 4: 4.79, 5: 4.96}
    runs += [run("arm", seed, value) for seed, value in values.items()]
    runs.append(run("arm", 3, 4.0, status=Status.FAILED))
    found = compare(runs, question("arm"))["arm"].equal_steps
    assert (found.n, found.better, found.excluded) == (4, 4, 1) and found.mean == pytest.approx(0.02)
    runs[-1] = run("arm", 3, math.nan)
    assert compare(runs, question("arm"))["arm"].equal_steps == found


def test_four_seeds_of_one_sign_carry_a_verdict_and_name_the_other_sets():
    seeds = {seed: RANDOM[seed] for seed in (1, 2, 3, 4)}
    runs = [run("random", seed, value, eval_b_loss=2.0) for seed, value in seeds.items()]
    runs += [run("arm", seed, value - 0.22, eval_b_loss=2.43) for seed, value in seeds.items()]
    found = compare(runs, question("arm", seeds=tuple(seeds)))["arm"]
    said = "arm is better than random at equal cost by 0.22 (4 of 4 seeds); eval_b_loss loses 0.43"
    assert found.verdict == said and found.others == {"eval_b_loss": pytest.approx(-0.43)}
    worse = [run("random", seed, value) for seed, value in seeds.items()]
    worse += [run("arm", seed, value + 0.1) for seed, value in seeds.items()]
    said = compare(worse, question("arm", seeds=tuple(seeds)))["arm"].verdict
    assert said == "arm is worse than random at equal cost by 0.1 (4 of 4 seeds)"


def test_four_seeds_of_two_signs_carry_none():
    runs = [run("random", seed, RANDOM[seed]) for seed in (1, 2, 3, 4)]
    runs += [run("arm", seed, RANDOM[seed] + (0.1 if seed == 2 else -0.1)) for seed in (1, 2, 3, 4)]
    assert compare(runs, question("arm", seeds=(1, 2, 3, 4)))["arm"].verdict == ""


def test_two_seeds_carry_none_even_if_both_agree():
    runs = [run("random", seed, RANDOM[seed]) for seed in (1, 2)]
    runs += [run("arm", seed, RANDOM[seed] - 1) for seed in (1, 2)]
    assert compare(runs, question("arm", seeds=(1, 2)))["arm"].verdict == ""


def test_five_seeds_that_scatter_show_no_difference():
    offsets = {1: 0.1, 2: -0.2, 3: 0.15, 4: -0.05, 5: 0.02}
    runs = [run("random", seed, value) for seed, value in RANDOM.items()]
    runs += [run("arm", seed, RANDOM[seed] + offset) for seed, offset in offsets.items()]
    said = compare(runs, question("arm"))["arm"].verdict
    assert said == "arm and random at equal cost: no difference that 5 seeds show"


def test_an_arm_that_no_baseline_is_as_dear_as_is_not_compared():
    runs = lengths({seed: RANDOM[seed] for seed in (1, 2, 3, 4)}, {100: 0.0, 200: -0.1})
    runs += [run("arm", seed, 3.0, deciding=150 if seed > 1 else 50) for seed in (1, 2, 3, 4)]
    found = compare(runs, question("arm", seeds=(1, 2, 3, 4)))["arm"]
    assert found.verdict == "arm is dearer than every random run in 3 of 4 seeds"
    assert found.equal_cost.dearer == [2, 3, 4] and found.equal_cost.n == 1


def test_an_arm_cheaper_than_every_baseline_is_said_to_be():
    runs = [run("random", 1, 4.7, steps=100), run("arm", 1, 4.6, steps=40, length=None)]
    assert compare(runs, question("arm", seeds=(1,)))["arm"].verdict == (
        "arm is cheaper than every random run in 1 of 1 seeds"
    )


def test_a_unit_of_cost_that_no_run_recorded_compares_nothing():
    runs = [run("random", 1, 4.7), run("arm", 1, 4.6)]
    found = compare(runs, question("arm", seeds=(1,), cost=Cost.CPU_SECONDS))["arm"]
    assert found.equal_cost.n == 0 and found.equal_cost.excluded == 1 and not found.worth
    assert found.equal_steps.n == 1


def test_other_metrics_are_those_of_the_same_kind():
    runs = [run("a", 1, 1.0, eval_b_loss=1.0, eval_b_runtime=3.0, eval_a_runtime=2.0, loss=1.0, epoch=1.0)]
    assert other_metrics(runs, "eval_a_loss") == ["eval_b_loss"]
    assert other_metrics(runs, "accuracy") == []


def test_the_verdict_goes_by_the_corrected_p():
    values = {seed: RANDOM[seed] - gain for seed, gain in zip(RANDOM, (0.05, 0.01, 0.06, 0.02, 0.09), strict=True)}
    runs = [run("random", seed, value) for seed, value in RANDOM.items()]
    runs += [run(arm, seed, values[seed]) for arm in ("one", "two") for seed in values]
    alone = compare(runs, question("one"))["one"]
    both = compare(runs, question("one", "two"))["one"]
    assert 0.025 < alone.equal_cost.p < 0.05
    assert "is better" in alone.verdict and "no difference that 5 seeds show" in both.verdict
