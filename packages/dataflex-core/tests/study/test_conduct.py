"""Conducting a study over cheap stand-ins for runs: what is trained, skipped, gone on with, evaluated and refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fake_study import FakeProcesses, Silent, metric

from dataflex.errors import ConfigError
from dataflex.study.checks import Tools
from dataflex.study.conduct import Options, conduct
from dataflex.study.file import read_study_file
from dataflex.study.record import read_record

BASE = {
    "do_eval": True,
    "eval_dataset": "a,b",
    "eval_on_each_dataset": True,
    "train_type": "dynamic_select",
    "component_name": "random",
    "warmup_step": 20,
    "update_step": 30,
    "update_times": 3,
}
ARMS = {"random": {}, "loss": {"component_name": "loss", "fake": {"deciding": 40.0}}}
TOOLS = Tools(check=lambda run: None, check_command=lambda command, run: None, defaults={})


class Study:
    """A study over stand-ins, in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.executor, self.watcher = folder, FakeProcesses(), Silent()

    def write(self, base=None, arms=ARMS, **keys):
        (self.folder / "run.yaml").write_text(yaml.safe_dump({**BASE, **(base or {})}))
        given = {"base": "run.yaml", "arms": arms, "metric": "eval_a_loss", "seeds": [42], "out": "out", **keys}
        given = {key: value for key, value in given.items() if value is not None}
        (self.folder / "study.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        return self

    def conduct(self, **options):
        """Conduct it; gives what study.json has, and the jobs that were started."""
        self.executor, self.watcher.told = FakeProcesses(), []
        study = read_study_file(self.folder / "study.yaml")
        conduct(study, TOOLS, Options(executor=self.executor, **options), self.watcher)
        return self.record, self.executor.started

    @property
    def record(self):
        return json.loads((self.folder / "out" / "study.json").read_text())

    def refused(self, **options):
        with pytest.raises(ConfigError) as caught:
            self.conduct(**options)
        return str(caught.value)


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Study(tmp_path)


def by_name(record):
    return {f"{run['arm']}@{run['length']:g}-{run['seed']}": run for run in record["runs"]}


def test_every_arm_is_trained_with_every_seed_and_the_baseline_at_every_length(study):
    record, started = study.write(seeds=[42, 43], baseline_lengths=[0.5, 2]).conduct()
    runs = by_name(record)
    assert len(started) == len(runs) == 8 and {run["status"] for run in runs.values()} == {"done"}
    steps = {name: run["steps"] for name, run in runs.items()}
    assert steps == {f"{name}-{seed}": number for seed in (42, 43) for name, number in
                     {"random@1": 110, "loss@1": 110, "random@0.5": 55, "random@2": 220}.items()}  # fmt: skip
    for name, run in runs.items():
        assert run["metric"] == metric(run["arm"], run["seed"], steps[name]), name
    assert runs["loss@1-42"]["cost"] == {"steps": 150.0, "seconds": 150.0, "cpu_seconds": 300.0}
    loss = record["arms"]["loss"]
    assert loss["equal_steps"]["gains"] == pytest.approx([0.2, 0.2]) and loss["rho"] == pytest.approx(
        [1.9477, 1.9477], abs=1e-3
    )
    assert loss["pays"] == [True, True] and (study.folder / "out/study.csv").read_text().count("\n") == 9
    assert record["total"] == 110 and not (study.folder / "out/lock").exists()


def test_a_finished_study_trains_nothing_and_adding_trains_only_what_is_new(study):
    before, _ = study.write().conduct()
    again, started = study.conduct()
    assert started == [] and again["runs"] == before["runs"]
    study.write(arms={**ARMS, "less": {"component_name": "less"}}, seeds=[42, 43], baseline_lengths=[2])
    _, started = study.conduct()
    assert sorted(started) == sorted(["less-42", "random@2-42", "random-43", "loss-43", "less-43", "random@2-43"])
    record, started = study.write().conduct()  # taken away again: nothing is lost, nothing is shown
    assert started == [] and len(record["runs"]) == 2 and (study.folder / "out/runs/less/42").is_dir()


@pytest.mark.fault("a run of a study fails", kept="all other runs; --retry-failed goes on with the failed one")
def test_a_failed_run_is_in_the_table_stops_nobody_and_is_tried_again_if_asked(study, seen):
    arms = {**ARMS, "less": {"component_name": "less", "fake": {"fail": 1}}}
    record, started = study.write(arms=arms, seeds=[42, 43]).conduct()
    failed = by_name(record)["less@1-42"]
    assert failed["status"] == "failed" and len(started) == 6 and failed["metric"] is None
    told = seen(failed["error"])
    assert told == "the component has failed at step 5. (exit code 2; log: out/logs/less-42.log)"
    assert record["arms"]["less"]["equal_steps"]["excluded"] == 2
    assert study.conduct()[1] == []
    record, started = study.conduct(retry_failed=True)
    assert started == ["less-42", "less-43"] and by_name(record)["less@1-42"]["status"] == "done"
    assert (study.folder / "out/runs/less/42/starts").read_text() == "2"  # it went on in its folder


def test_a_failed_run_whose_keys_were_corrected_begins_anew(study):
    arms = {**ARMS, "less": {"component_name": "less", "fake": {"fail": 9}}}
    study.write(arms=arms).conduct()
    record, started = study.write(arms={**ARMS, "less": {"component_name": "less"}}).conduct()
    assert started == ["less-42"] and by_name(record)["less@1-42"]["status"] == "done"
    assert (study.folder / "out/earlier/1/runs/less/42/starts").exists()


@pytest.mark.fault("a key of a study's finished runs was changed", kept="everything; nothing is trained")
def test_a_changed_key_of_a_finished_run_is_refused_with_the_key(study, seen):
    study.write(seeds=[42, 43]).conduct()
    told = study.write({"learning_rate": 0.1}, seeds=[42, 43]).refused()
    assert told == (
        "runs of random, loss have finished under other keys: learning_rate was not given and is now 0.1. Put them "
        "back, give the arm another name, or train it anew with --restart random --restart loss."
    )
    seen(told)
    record, started = study.conduct(restart=["random", "loss"])
    assert len(started) == 4 and (study.folder / "out/earlier/1/runs/random/42/eval_results.json").exists()
    assert {run["status"] for run in record["runs"]} == {"done"}
    assert study.refused(restart=["rando"]).startswith("--restart rando: study.yaml has no such arm. Did you mean")


def test_a_finished_run_whose_folder_was_deleted_is_trained_again(study):
    before, _ = study.write().conduct()
    shutil.rmtree(study.folder / "out/runs/loss")
    record, started = study.conduct()
    assert started == ["loss-42"] and [run["metric"] for run in record["runs"]] == [
        run["metric"] for run in before["runs"]
    ]


def test_the_same_length_by_another_key_is_no_change(study):
    study.write().conduct()
    assert study.write({"train_step": 110, "update_times": 9}).conduct()[1] == []


def test_commands_of_prepare_run_once_a_seed_before_its_runs(study):
    prepare = [
        sys.executable,
        "-c",
        "import sys; open('seeds', 'a').write(sys.argv[1] + sys.argv[2])",
        "{seed}",
        "{out}",
    ]
    _, started = study.write(prepare=prepare, seeds=[42, 43]).conduct()
    assert started[:2] == ["prepare 42", "prepare 43"] and (study.folder / "seeds").read_text() == "42out43out"
    assert study.conduct()[1] == [] and study.write(prepare=prepare, seeds=[42, 44]).conduct()[1][0] == "prepare 44"


def test_a_failing_prepare_ends_the_study_before_its_first_run(study):
    told = study.write(prepare=[sys.executable, "-c", "import sys; sys.exit('no text here')"]).refused()
    assert told == "prepare of seed 42 failed: no text here (exit code 1; log: out/logs/.prepare-42.log)"


EVALUATE = [sys.executable, "-c", "import sys, json; print(json.dumps({'accuracy': 0.5})); print('bye')"]


def test_the_numbers_of_evaluate_join_those_of_the_run(study):
    record, started = study.write(evaluate=EVALUATE, metric="accuracy", direction="higher").conduct()
    assert started == ["random-42", "random-42 evaluate", "loss-42", "loss-42 evaluate"]
    run = by_name(record)["loss@1-42"]
    assert run["metric"] == run["metrics"]["accuracy"] == 0.5 and "eval_a_loss" in run["metrics"]
    assert study.conduct()[1] == []


def test_a_failing_evaluate_keeps_the_weights_and_is_tried_again_without_training(study):
    evaluate = [
        sys.executable,
        "-c",
        "import os, sys; sys.exit('no' if not os.path.exists('fixed') else print('{\"accuracy\": 1}'))",
    ]
    record, _ = study.write(evaluate=evaluate, metric="accuracy").conduct()
    assert {run["status"] for run in record["runs"]} == {"failed"} and len(record["runs"]) == 2
    assert record["runs"][0]["error"].startswith("evaluate failed: no (exit code 1")
    (study.folder / "fixed").touch()
    assert study.conduct()[1] == []
    record, started = study.conduct(retry_failed=True)
    assert started == ["random-42 evaluate", "loss-42 evaluate"]
    assert (study.folder / "out/runs/loss/42/starts").read_text() == "1"


def test_another_evaluate_is_run_without_training_and_none_takes_its_numbers_away(study):
    study.write().conduct()
    record, started = study.write(evaluate=EVALUATE).conduct()
    assert started == ["random-42 evaluate", "loss-42 evaluate"] and record["runs"][0]["metrics"]["accuracy"] == 0.5
    record, started = study.write().conduct()
    assert started == [] and "accuracy" not in record["runs"][0]["metrics"]


def test_a_name_that_is_there_already_is_an_error_of_evaluate(study):
    evaluate = [sys.executable, "-c", "print('{\"eval_a_loss\": 1}')"]
    record, _ = study.write(evaluate=evaluate).conduct()
    assert "eval_a_loss, which the run has already" in record["runs"][0]["error"]


@pytest.mark.bad_input("a metric that no run turns out to have", file="a study file")
def test_a_metric_that_no_run_has_is_told_when_the_first_one_ends(study, seen):
    told = study.write(metric="accuracy", evaluate=[sys.executable, "-c", "print('{\"accurcy\": 1}')"]).refused()
    assert seen(told).startswith(
        "metric: accuracy (from study.yaml) is not among the numbers of the first run that ended:"
    )
    assert "accurcy" in told and study.executor.started == ["random-42", "random-42 evaluate"]
    assert study.refused() == told and study.executor.started == []


def test_a_length_that_only_the_data_tells_is_that_of_the_baselines_first_run(study):
    base = {"update_times": -1, "num_train_epochs": 2, "fake": {"epoch_steps": 60}}
    record, started = study.write(base, seeds=[42, 43], baseline_lengths=[2]).conduct()
    assert started[0] == "random-42" and len(started) == 6
    assert {name: run["steps"] for name, run in by_name(record).items() if name.endswith("43")} == {
        "random@1-43": 60,
        "loss@1-43": 60,
        "random@2-43": 120,
    }
    assert study.conduct()[1] == [] and record["total"] == 60


def test_the_others_wait_while_the_first_run_fails(study):
    base = {"update_times": -1, "fake": {"epoch_steps": 60}}
    arms = {"random": {"fake": {"fail": 1}}, "loss": {"component_name": "loss"}}
    record, started = study.write(base, arms=arms, seeds=[42, 43]).conduct(jobs=2)
    assert started == ["random-42", "random-43"] and record["total"] is None
    record, started = study.conduct(retry_failed=True)
    assert started[0] == "random-42" and len(started) == 4 and record["total"] == 60


def test_the_next_length_is_trained_where_an_arm_lies_outside_all(study):
    record, started = study.write().conduct()
    assert record["arms"]["loss"]["verdict"] == "loss is dearer than every random run in 1 of 1 seeds"
    record, started = study.conduct(extend_baseline=True)
    assert started == ["random@2-42"] and record["extended"] == [2]
    assert record["arms"]["loss"]["equal_cost"]["outside"] == 0
    record, started = study.conduct(extend_baseline=True)
    assert started == [] and len(record["runs"]) == 3


def test_several_runs_at_once_are_recorded_as_such(study):
    arms = {name: {"component_name": name, "fake": {"seconds": 0.5}} for name in ("random", "loss", "less")}
    record, started = study.write(arms=arms).conduct(jobs=3)
    assert [run["shared_cores"] for run in record["runs"]] == [False, True, True]  # the first one tells the metrics
    assert len(started) == 3


def test_sigterm_stops_the_runs_and_the_same_command_goes_on(study):
    arms = {
        "random": {},
        "loss": {"component_name": "loss", "fake": {"seconds": 60}},
        "less": {"component_name": "less"},
    }
    log = study.folder / "out/logs/loss-42.log"

    def stop():
        if log.exists() and "begun" in log.read_text():
            study.watcher.on_tick = None
            os.kill(os.getpid(), signal.SIGTERM)

    study.watcher.on_tick = stop
    record, started = study.write(arms=arms).conduct()
    assert started == ["random-42", "loss-42"]
    runs = by_name(record)
    assert (runs["loss@1-42"]["status"], runs["less@1-42"]["status"]) == ("missing", "missing")
    assert runs["loss@1-42"]["error"] == "it was stopped before its last step; the same command goes on"
    record, started = study.conduct()
    assert started == ["loss-42", "less-42"] and {run["status"] for run in record["runs"]} == {"done"}
    assert (study.folder / "out/runs/loss/42/starts").read_text() == "2"
    assert by_name(record)["loss@1-42"]["seconds"]["starting"] is None  # of two parts, one of them lost steps


def test_a_run_that_somebody_else_stops_is_not_taken_for_finished(study):
    arms = {"random": {}, "loss": {"component_name": "loss", "fake": {"seconds": 60}}}
    note = study.folder / "out/logs/loss-42.process.json"
    log = study.folder / "out/logs/loss-42.log"

    def stop():
        if note.exists() and log.exists() and "begun" in log.read_text():
            study.watcher.on_tick = None
            os.kill(json.loads(note.read_text())["pid"], signal.SIGTERM)

    study.watcher.on_tick = stop
    record, _ = study.write(arms=arms).conduct()
    assert by_name(record)["loss@1-42"]["status"] == "missing"  # although its exit code was 0
    record, started = study.conduct()
    assert started == ["loss-42"] and by_name(record)["loss@1-42"]["status"] == "done"


def test_a_static_run_that_was_interrupted_begins_anew(study):
    arms = {"random": {}, "plain": {"train_type": "static", "fake": {"fail": 1}}}
    study.write(arms=arms).conduct()
    study.conduct(retry_failed=True)
    assert (study.folder / "out/runs/plain/42/starts").read_text() == "1"  # nothing of the first start was left


SCRIPT = """
import sys
from pathlib import Path
from fake_study import FakeProcesses, Silent
from dataflex.study.checks import Tools
from dataflex.study.conduct import Options, conduct
from dataflex.study.file import read_study_file
tools = Tools(check=lambda run: None, check_command=lambda command, run: None, defaults={})
executor = FakeProcesses()
conduct(read_study_file(Path("study.yaml")), tools, Options(executor=executor), Silent())
print(executor.started)
"""


def test_a_study_that_is_killed_twice_ends_as_if_it_never_was(study):
    arms = {
        "random": {},
        "loss": {"component_name": "loss", "fake": {"seconds": 60}},
        "less": {"component_name": "less", "fake": {"seconds": 60}},
    }
    study.write(arms=arms, seeds=[42], baseline_lengths=[2])

    def kill_when(log):
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen([sys.executable, "-c", SCRIPT], env=environ)
        deadline = time.monotonic() + 120
        while not (log.exists() and "begun" in log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline, "the study did not come to the run to kill"
            time.sleep(0.05)
        process.kill()
        process.wait()

    kill_when(Path("out/logs/loss-42.log"))
    kill_when(Path("out/logs/less-42.log"))
    record, started = study.conduct()
    assert (
        "random-42" not in started
        and "loss-42" not in started
        and {run["status"] for run in record["runs"]} == {"done"}
    )
    whole = Study(study.folder / "whole")
    (study.folder / "whole").mkdir()
    quick = {name: {**keys, "fake": {}} if keys else {} for name, keys in arms.items()}
    os.chdir(whole.folder)
    expected, _ = whole.write(arms=quick, baseline_lengths=[2]).conduct()
    assert [run["metrics"] for run in record["runs"]] == [run["metrics"] for run in expected["runs"]]
    for arm in ("loss", "less"):
        assert record["arms"][arm]["equal_steps"] == expected["arms"][arm]["equal_steps"]


@pytest.mark.fault("two studies in one folder", kept="the study that was there first; the second one changes nothing")
def test_a_second_study_in_the_same_folder_is_refused(study, seen):
    study.write(arms={"random": {"fake": {"seconds": 0.5}}})
    told = []

    def try_another():
        study.watcher.on_tick = None
        with pytest.raises(ConfigError) as caught:
            conduct(read_study_file(study.folder / "study.yaml"), TOOLS, Options(), Silent())
        told.append(str(caught.value))

    study.watcher.on_tick = try_another
    study.conduct()
    assert seen(told[0]).startswith("another run writes to out: out (process ")


def test_a_record_of_a_later_version_is_refused_before_anything(study):
    study.write().conduct()
    path = study.folder / "out/study.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    assert "later version" in study.refused() and study.executor.started == []
    path.unlink()
    assert study.conduct()[1] == [] and read_record(study.folder / "out") is not None  # it is made anew from the notes


def test_a_commands_arm_is_its_last_phase_and_costs_all_of_them(study):
    arms = {"random": {}, "doremi": {"command": "doremi", "doremi": {"proxy": {"train_step": 50}}}}
    record, started = study.write(arms=arms).conduct()
    run = by_name(record)["doremi@1-42"]
    assert started == ["random-42", "doremi-42"]
    assert (run["status"], run["steps"], run["metric"]) == ("done", 110, 3.0)
    # 40 + 50 + 110 seconds of training and 30 of deciding, beside 110 seconds for the last phase's 110 steps
    assert run["cost"]["steps"] == run["cost"]["seconds"] == 230.0 and run["deciding"]["steps"] == 120.0
    assert study.conduct()[1] == []
