"""Select runs from the run file to the decisions, through LlamaFactory."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
from tiny_runs import NOTE_SELECT, NOTE_SELECTOR, OTHER, POOL, call, script, weights_digest

from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError, ConfigError
from dataflex.report.read import read_run

pytestmark = pytest.mark.slow

FAILING = """
from dataflex import Selector, register_selector

@register_selector("failing")
class Failing(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        rows = list(range(num_samples))
        return rows if step_id < 5 else rows[1:]
"""


def decisions(folder):
    return [(record.step, np.load(folder / record.result_ref)) for record in DecisionLog(folder)]


def logged_steps(folder):
    return json.loads((folder / "trainer_state.json").read_text())["global_step"]


def test_the_notes_yaml_trains_from_the_command_line(workshop):
    run = workshop.run_file(**NOTE_SELECT | {"component_name": "loss"})
    done = call(script("dataflex-cli"), "train", str(run))
    assert done.returncode == 0
    assert logged_steps(workshop.out / "run") == 8  # 2 + 3 x 2
    taken = decisions(workshop.out / "run")
    assert [step for step, _ in taken] == [2, 5]
    assert all(len(rows) == len(set(rows)) == 12 for _, rows in taken)  # 3 steps x 4 samples
    assert (workshop.out / "run" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("finetuning_type", ["lora", "full"])
def test_the_random_selector_draws_anew_at_each_boundary(workshop, train, finetuning_type):
    train(workshop.run_file(finetuning_type=finetuning_type, **NOTE_SELECT))
    (_, first), (_, second) = decisions(workshop.out / "run")
    assert not np.array_equal(first, second)
    assert logged_steps(workshop.out / "run") == 8


def test_another_seed_chooses_other_samples_and_the_same_seed_the_same(workshop, train):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(workshop.run_file(name, **NOTE_SELECT, seed=seed))
    chosen = [np.concatenate([rows for _, rows in decisions(workshop.out / name)]) for name in "abc"]
    assert np.array_equal(chosen[0], chosen[1]) and not np.array_equal(chosen[0], chosen[2])
    assert weights_digest(workshop.out / "a") == weights_digest(workshop.out / "b")


def test_the_notes_class_trains_from_a_single_file(workshop, train):
    mine = workshop.out / "mine.py"
    mine.write_text(NOTE_SELECTOR)
    train(workshop.run_file(**NOTE_SELECT | {"component_name": "custom"}), plugins=(str(mine),))
    taken = decisions(workshop.out / "run")
    assert [rows.tolist() for _, rows in taken] == [list(range(12))] * 2
    (record, _) = DecisionLog(workshop.out / "run")
    assert (record.component, record.kind) == ("custom", "selector") and "mine.py" in record.dist


@pytest.mark.fault("a component returns garbage", kept="a checkpoint of the step it was asked at")
def test_a_bad_answer_stops_the_run_after_a_checkpoint_and_the_mended_run_resumes(workshop, train, seen):
    mine = workshop.out / "mine.py"
    mine.write_text(FAILING)
    run = workshop.run_file(**NOTE_SELECT | {"component_name": "failing"})
    with pytest.raises(
        ComponentError, match=r"(?s)'failing' of .*mine.py.*step 5.*shape \[11\] where 12.*checkpoint-5"
    ) as error:
        train(run, plugins=(str(mine),))
    seen(str(error.value))
    assert (workshop.out / "run" / "checkpoint-5" / "trainer_state.json").is_file()
    mine.write_text(FAILING.replace("rows[1:]", "rows"))
    train(run, plugins=(str(mine),))
    assert logged_steps(workshop.out / "run") == 8
    assert [step for step, _ in decisions(workshop.out / "run")] == [2, 5]


@pytest.mark.fault("a component raises", kept="a checkpoint of the step it was asked at")
def test_a_crash_inside_a_selector_is_a_component_error(workshop, train, seen):
    mine = workshop.out / "mine.py"
    mine.write_text(FAILING.replace("rows[1:]", "undefined_name"))
    message = r"failed in select\(\) at step 5: NameError: name 'undefined_name' is not defined"
    with pytest.raises(ComponentError, match=message) as error:
        train(workshop.run_file(**NOTE_SELECT | {"component_name": "failing"}), plugins=(str(mine),))
    seen(str(error.value))


def test_a_pool_that_cannot_fill_a_stage_is_refused_before_the_model_loads(workshop, train, monkeypatch):
    import llamafactory.train.sft.workflow as workflow

    monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    message = rf"update_step=17 draws 68 samples \(17 steps of 4\) but the pool holds {POOL} .*Lower update_step to 16"
    with pytest.raises(ConfigError, match=message):
        train(workshop.run_file(**NOTE_SELECT | {"update_step": 17}))


def test_samples_repeat_when_asked_for(workshop, train):
    keys = NOTE_SELECT | {"update_step": 17, "update_times": 1, "component_params": {"replacement": True}}
    train(workshop.run_file(**keys))
    ((_, rows),) = decisions(workshop.out / "run")
    assert len(rows) == 68 > len(set(rows))


def test_a_misspelt_llamafactory_key_is_refused_before_anything_loads(workshop, train):
    with pytest.raises(
        ConfigError, match=r"unknown key learning_rat \(from run.yaml\)\. Did you mean 'learning_rate'\?"
    ):
        train(workshop.run_file(**NOTE_SELECT, learning_rat=1))


def test_epochs_set_the_number_of_steps_when_update_times_is_minus_one(workshop, train):
    train(workshop.run_file(**NOTE_SELECT | {"update_times": -1, "num_train_epochs": 0.5}))
    assert logged_steps(workshop.out / "run") == 8  # ceil(0.5 x 64 / 4)


def test_resuming_in_the_middle_of_a_stage_gives_the_same_model(workshop, train):
    keys = NOTE_SELECT | {"component_name": "loss", "save_strategy": "steps", "save_steps": 1}
    whole = workshop.run_file("whole", **keys)
    train(whole)
    again = workshop.run_file("again", **keys)
    train(again)
    for step in (8, 7, 6, 5):  # leave checkpoint-4, in the middle of the stage from 2 to 5
        shutil.rmtree(workshop.out / "again" / f"checkpoint-{step}")
    before = [rows.tolist() for _, rows in decisions(workshop.out / "again")]
    (workshop.out / "again" / "adapter_model.safetensors").unlink()
    train(again)
    assert weights_digest(workshop.out / "again") == weights_digest(workshop.out / "whole")
    assert [rows.tolist() for _, rows in decisions(workshop.out / "again")] == before


def test_a_data_set_that_does_not_exist_is_a_message_not_a_traceback(workshop, train):
    with pytest.raises(ConfigError, match=r"(?s)cannot find dataset: tinny \(from run.yaml\) in .*tinny"):
        train(workshop.run_file(**NOTE_SELECT, dataset="tinny"))


def test_a_mended_file_may_lie_elsewhere_when_the_run_is_resumed(workshop, train, caplog):
    broken, mended = workshop.out / "broken.py", workshop.out / "mended.py"
    broken.write_text(FAILING)
    mended.write_text(FAILING.replace("rows[1:]", "rows"))
    run = workshop.run_file(**NOTE_SELECT | {"component_name": "failing"})
    with pytest.raises(ComponentError, match="checkpoint-5"):
        train(run, plugins=(str(broken),))
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(run, plugins=(str(mended),))
    assert logged_steps(workshop.out / "run") == 8
    assert "broken.py" in caplog.text and "mended.py" in caplog.text


@pytest.mark.fault("a file of a checkpoint is damaged", kept="the whole checkpoint before it, which is named")
def test_a_damaged_checkpoint_that_was_named_is_refused_before_the_model_loads(workshop, train, monkeypatch, seen):
    import llamafactory.train.sft.workflow as workflow

    keys = NOTE_SELECT | {"save_strategy": "steps", "save_steps": 3}
    train(workshop.run_file(**keys))
    out = workshop.out / "run"
    (out / "checkpoint-6" / "dataflex" / "plan.npy").write_bytes(b"cut")
    monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    message = r"(?s)checkpoint-6: .*plan.npy is damaged.*Resume from .*checkpoint-3, the last whole one before it"
    with pytest.raises(ConfigError, match=message) as error:
        train(workshop.run_file(**keys, resume_from_checkpoint=str(out / "checkpoint-6")))
    seen(str(error.value))


def test_automatic_resume_passes_over_a_damaged_checkpoint_and_says_so(workshop, train, caplog):
    keys = NOTE_SELECT | {"save_strategy": "steps", "save_steps": 3}
    train(workshop.run_file("whole", **keys))
    run = workshop.run_file("again", **keys)
    train(run)
    for name in ("checkpoint-8", "checkpoint-6"):
        (workshop.out / "again" / name / "dataflex" / "COMPLETE").unlink()
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(run)
    assert "not resuming from" in caplog.text and "checkpoint-6/dataflex/COMPLETE is missing" in caplog.text
    assert weights_digest(workshop.out / "again") == weights_digest(workshop.out / "whole")


LESS = {"component_name": "less", "val_size": 8}


def test_less_trains_with_the_notes_yaml_and_nothing_but_an_eval_set(workshop):
    run = workshop.run_file(**NOTE_SELECT | LESS)
    done = call(script("dataflex-cli"), "train", str(run))
    assert done.returncode == 0
    assert logged_steps(workshop.out / "run") == 8
    first, second = DecisionLog(workshop.out / "run")
    assert (first.step, second.step) == (2, 5)
    assert first.metrics["scored"] == POOL - 8 and first.metrics["validation"] == 8
    assert first.metrics["one_by_one"] == 0 and first.metrics["non_finite"] == 0
    assert 0 <= second.metrics["overlap"] <= 1
    assert (workshop.out / "run" / "adapter_model.safetensors").is_file()


def test_less_aims_at_each_eval_set_and_resumes_to_the_same_model(workshop, train):
    keys = NOTE_SELECT | {
        "component_name": "less",
        "eval_dataset": "tiny,val",
        "eval_on_each_dataset": True,
        "save_strategy": "steps",
        "save_steps": 1,
        "component_params": {"history": True},
    }
    train(workshop.run_file("whole", **keys))
    again = workshop.run_file("again", **keys)
    train(again)
    for step in (8, 7, 6, 5):  # leave checkpoint-4: the history of the boundary at 2 has to come from it
        shutil.rmtree(workshop.out / "again" / f"checkpoint-{step}")
    before = [rows.tolist() for _, rows in decisions(workshop.out / "again")]
    train(again)
    assert weights_digest(workshop.out / "again") == weights_digest(workshop.out / "whole")
    assert [rows.tolist() for _, rows in decisions(workshop.out / "again")] == before
    assert all(len(record.metrics["subtask_maxima"]) == 2 for record in DecisionLog(workshop.out / "again"))


def test_less_without_an_eval_set_is_refused_before_anything_loads(workshop, train):
    with pytest.raises(ConfigError, match=r"'less' needs an eval set and run.yaml names none"):
        train(workshop.run_file(**NOTE_SELECT | {"component_name": "less"}))


def test_the_share_of_each_data_set_in_a_selection_is_recorded_and_reported(workshop, train):
    train(workshop.run_file(**NOTE_SELECT | {"component_name": "loss", "dataset": "other,tiny"}))
    out = workshop.out / "run"
    taken = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]
    for decision in taken:
        rows = np.load(out / decision["result_ref"])
        of_other = int((rows < OTHER).sum())  # LlamaFactory puts one data set after the other
        assert decision["metrics"]["domains"] == ["other", "tiny"]
        assert decision["metrics"]["samples"] == [of_other, len(rows) - of_other]
    steps, shares = read_run(out, "run").over_domains("realised_samples")
    assert steps.tolist() == [2, 5]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    info = json.loads((out / "dataflex" / "run.json").read_text())
    assert (info["domains"], info["domain_sizes"]) == (["other", "tiny"], [OTHER, POOL])
