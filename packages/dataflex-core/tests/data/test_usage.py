"""How often rows were trained on, from the plans on disk."""

from __future__ import annotations

import numpy as np

from dataflex.record.plans import find_plans, forget_from, plan_name, result_name, served_plans


def save(folder, name, rows):
    (folder / name).parent.mkdir(exist_ok=True)
    np.save(folder / name, np.array(rows, np.int64))


def served(folder, recorded, end):
    plans = served_plans(folder, find_plans(folder, recorded), end=end, global_batch=2)
    return {plan.step: plan.rows.tolist() for plan in plans}


def test_a_plan_counts_up_to_the_next_one_or_the_last_step(tmp_path):
    save(tmp_path, plan_name(0), range(8))  # four steps long, but the next plan comes after two
    save(tmp_path, result_name(2), [7, 7, 5, 5])
    assert served(tmp_path, {2: result_name(2)}, end=3) == {0: [0, 1, 2, 3], 2: [7, 7]}
    assert served(tmp_path, {2: result_name(2)}, end=4) == {0: [0, 1, 2, 3], 2: [7, 7, 5, 5]}


def test_without_a_step_nothing_was_trained_on(tmp_path):
    save(tmp_path, plan_name(0), range(8))
    assert served(tmp_path, {}, end=0) == {}


def test_a_plan_that_is_missing_is_passed_over(tmp_path):
    save(tmp_path, plan_name(0), range(4))
    assert served(tmp_path, {2: "decisions/gone.npy"}, end=4) == {0: [0, 1, 2, 3]}


def test_files_of_later_steps_are_forgotten_and_others_are_not_touched(tmp_path):
    for name in (plan_name(0), result_name(2), plan_name(4), result_name(4), "decisions/mine.npy"):
        save(tmp_path, name, [1])
    forget_from(tmp_path, 4)
    assert sorted(path.name for path in (tmp_path / "decisions").iterdir()) == [
        "mine.npy",
        "plan-00000000.npy",
        "step-00000002.npy",
    ]
