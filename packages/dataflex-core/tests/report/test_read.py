"""Reading runs: whole ones, killed ones, ones that are still writing, and ones without a record."""

from __future__ import annotations

import json

import numpy as np
import pytest
from synthetic_runs import write_run

from dataflex.errors import ConfigError
from dataflex.record.plans import plan_name, result_name
from dataflex.record.run import RunRecord
from dataflex.report.read import names, read_run
from dataflex.spec import Kind


def test_usage_counts_the_rows_that_were_trained_on(tmp_path):
    folder = write_run(tmp_path / "run", boundaries=1, update=2, pool=10, global_batch=2, done=3)
    np.save(folder / plan_name(0), np.array([0, 1, 2, 0]))
    np.save(folder / result_name(2), np.array([0, 5, 7, 7]))  # one of its two steps was done
    usage = read_run(folder, "run").usage
    assert usage.rows_by_times.tolist() == [6, 3, 0, 1, 0, 0, 0, 0, 0, 0]
    assert (usage.coverage.steps.tolist(), usage.coverage.values.tolist()) == ([0, 2, 3], [0, 0.3, 0.4])


def test_numbers_are_found_without_their_prefix(tmp_path):
    folder = write_run(tmp_path / "run", Kind.WEIGHTER)
    record = RunRecord(folder)
    lines = [json.loads(line) for line in record.log_path.read_text().splitlines()]
    for line in lines:
        line["values"] = {f"dataflex/{k}" if "weight" in k else k: v for k, v in line["values"].items()}
    record.log_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {"loss", "weight_ess", "weighted_loss", "eval_held_out_loss"} <= read_run(folder, "run").series.keys()


def test_the_time_of_a_run_is_shared_out(tmp_path):
    seconds = read_run(write_run(tmp_path / "run", boundaries=2, update=5), "run").seconds
    # 15 entries of steps and 3 of evaluations, one second each; the parts come from the entries and two decisions
    assert seconds["scoring"] == pytest.approx(0.3) and seconds["planning"] == pytest.approx(0.1)
    assert seconds["checkpoints"] == pytest.approx(0.9) and seconds["evaluation"] == pytest.approx(1.5)
    assert sum(seconds.values()) == pytest.approx(18)


def test_a_run_that_was_killed_says_how_far_it_came(tmp_path):
    folder = write_run(tmp_path / "run", done=12)
    for path in (folder / "decisions.jsonl", RunRecord(folder).log_path):
        with path.open("a") as file:
            file.write('{"step": 15, "val')
    run = read_run(folder, "run")
    assert run.state == "step 12 of 45: still running, or stopped early"
    assert [decision.step for decision in run.decisions] == [5, 10]


def test_a_static_run_is_read_from_the_trainers_own_files(tmp_path):
    history = [{"loss": 2.0, "step": 5}, {"eval_loss": 1.5, "step": 5}, {"train_runtime": 9.0, "step": 5}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    run = read_run(tmp_path, "static")
    assert (run.series["loss"].last, run.series["eval_loss"].last, run.state) == (2.0, 1.5, "step 5")
    assert run.seconds == {"training": 9.0, "scoring": 0, "planning": 0.0, "evaluation": 0}
    assert run.usage is None and run.decisions == [] and run.domains == ()


def test_a_static_run_that_is_still_going_is_read_from_its_newest_checkpoint_or_llamafactorys_log(tmp_path):
    (tmp_path / "trainer_log.jsonl").write_text('{"current_steps": 3, "loss": 2.5}\n{"current_st')
    assert read_run(tmp_path, "static").series["loss"].last == 2.5
    (tmp_path / "checkpoint-4").mkdir()
    state = {"log_history": [{"loss": 2.25, "step": 4}]}
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text(json.dumps(state))
    assert read_run(tmp_path, "static").series["loss"].last == 2.25


def test_decisions_of_an_older_version_are_enough(tmp_path):
    folder = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
    for line in lines:
        for name in ("plan_ref", "timing", "scores"):
            del line[name]
    (folder / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (folder / "dataflex").iterdir():
        path.unlink()
    run = read_run(folder, "run")
    assert len(run.decisions) == 8 and run.seconds == {"scoring": pytest.approx(1.6)}


def test_a_folder_that_no_run_wrote_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is not the output directory of a run: .*Name the output_dir of a run file"):
        read_run(tmp_path, "nothing")


def test_runs_are_called_by_what_tells_them_apart(tmp_path):
    paths = [tmp_path / "a" / "out", tmp_path / "b" / "out"]
    assert names(paths) == ["a/out", "b/out"]
    assert names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    with pytest.raises(ConfigError, match="the same run was named twice"):
        names([tmp_path, tmp_path])
