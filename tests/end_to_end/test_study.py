"""``dataflex study`` on real runs: refused at once, killed twice, and the same as runs that nobody killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_runs import NOTE_SELECT, call, kill_all

from dataflex.cli.app import main
from dataflex.errors import ConfigError

pytestmark = pytest.mark.slow
SAVED = {"save_strategy": "steps", "save_steps": 2, "eval_dataset": "val,other", "eval_on_each_dataset": True}
ARMS = {"random": {}, "loss": {"component_name": "loss", "component_params": {"focus": "high"}}}


@pytest.fixture
def study(workshop, monkeypatch):
    """Write a study over a run file of the workshop; gives its path. Its folder is ``study`` there."""
    monkeypatch.chdir(workshop.out)

    def study(base=None, **keys):
        run = workshop.run_file(
            "base", **{**NOTE_SELECT, **SAVED, "do_eval": True, "components_cfg_file": None}, **(base or {})
        )
        given = {"base": run.name, "out": "study", "arms": ARMS, "metric": "eval_val_loss", "seeds": [3], **keys}
        path = workshop.out / "docs.yaml"
        path.write_text(yaml.safe_dump(given, sort_keys=False))
        return path

    return study


def run(*arguments):
    """The exit code of the command in this process."""
    with pytest.raises(SystemExit) as ending:
        main(["study", *map(str, arguments)])
    return ending.value.code


@pytest.mark.bad_input("arms that cannot be trained, and one that is another's twin", file="a study file")
def test_everything_wrong_with_all_arms_is_told_before_the_first_run(study, capsys, seen):
    arms = {
        "random": {"component_params": {"focus": "high"}},
        "loss": {"component_name": "los"},
        "late": {"component_name": "loss", "train_step": 2},
        "twin": {"train_step": 8, "component_params": {"focus": "high"}},
    }
    assert run(study(arms=arms, metric="eval_vall_loss")) == 2
    told = seen(capsys.readouterr().err)
    for said in (
        "arm random: selector 'random' has no parameter 'focus'",
        "arms random, loss, late, twin: metric: eval_vall_loss (from docs.yaml) will not be measured. Did you mean",
        "arm loss: component_name: 'los'",
        "arm late: train_step=2 ends the run before the first boundary at warmup_step=2 (from late-3.yaml)",
    ):
        assert said in told, said
    assert not Path("study").exists()
    assert run(study(arms={"random": {}, "twin": {"train_step": 8}})) == 2
    assert "arms random and twin are alike but for their names" in capsys.readouterr().err


def test_a_dry_run_lists_all_runs_with_their_files_and_writes_nothing(study, capsys):
    arms = {
        **ARMS,
        "plain": {"train_type": "static"},
        "tilted": {"train_type": "dynamic_weight", "component_name": "loss"},
    }
    assert run(study(arms=arms, baseline_lengths=[1, 2]), "--dry-run", "seeds=[3,4]") == 0
    said = capsys.readouterr().out
    assert "10 runs, 10 of them to train or evaluate." in said and "study/files/random@2-4.yaml" in said
    keys = {document["output_dir"]: document for text in said.split("\n\n")[1:] if (document := yaml.safe_load(text))}
    lengths = ("train_step", "max_steps", "update_times")
    assert {Path(name).parts[2]: [found.get(key) for key in lengths] for name, found in keys.items()} == {
        "random": [None, None, 2],
        "loss": [8, None, None],
        "plain": [None, 8, None],
        "tilted": [8, None, None],
        "random@2": [16, None, None],
    }
    assert not Path("study").exists()


def wait_for(found, process):
    deadline = time.monotonic() + 300
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found(), "the run has not come that far"


def test_a_study_killed_twice_ends_with_the_metrics_of_runs_that_nobody_killed(study, train, tmp_path):
    command = [sys.executable, "-m", "dataflex", "study", str(study(baseline_lengths=[2])), "--jobs", "1"]
    runs = Path("study/runs")
    for arm, everything in (("random", True), ("loss", False)):  # with its runs; then alone, so that one is left behind
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(lambda arm=arm: (runs / arm / "3" / "checkpoint-2").is_dir(), process)
        if everything:
            kill_all(process)
        else:
            process.kill()
            process.wait()
    ended = call(*command)
    assert ended.returncode == 0
    record = json.loads(Path("study/study.json").read_text())
    found = {f"{run['arm']}@{run['length']:g}": run for run in record["runs"]}
    assert {name: (run["status"], run["steps"]) for name, run in found.items()} == {
        "random@1": ("done", 8),
        "loss@1": ("done", 8),
        "random@2": ("done", 16),
    }
    for name, run in found.items():
        file = Path("study/files", f"{name.removesuffix('@1')}-3.yaml")
        alone = tmp_path / "alone" / name
        train(file, f"output_dir={alone}", "resume_from_checkpoint=null")
        expected = json.loads((alone / "eval_results.json").read_text())
        assert run["metric"] == run["metrics"]["eval_val_loss"] == expected["eval_val_loss"], name
        assert run["metrics"]["eval_other_loss"] == expected["eval_other_loss"], name
        assert run["cost"]["steps"] >= run["steps"] and run["cost"]["cpu_seconds"] >= 0
    loss = record["arms"]["loss"]
    gain = found["random@1"]["metric"] - found["loss@1"]["metric"]
    assert loss["equal_steps"]["gains"] == [gain] and loss["equal_steps"]["n"] == 1 and loss["verdict"] == ""
    page = Path("study/report.html").read_text()
    assert 'href="runs/loss/3/report.html"' in page and Path("study/runs/loss/3/report.html").is_file()
    again = call(*command, "--retry-failed")
    assert again.returncode == 0 and "3 runs, 3 of them done" in again.stderr and "[" not in again.stderr
    listed = call(sys.executable, "-m", "dataflex", "study", "--list", "study")
    assert listed.returncode == 0 and "random@2" in listed.stdout


def test_a_study_and_a_run_are_not_shown_on_one_page(tmp_path):
    from synthetic_studies import write_study

    from dataflex.cli.report import run_report

    folder = write_study(tmp_path / "study", seeds=(42,))
    run_report([folder], tmp_path / "page.html", None)
    assert "<title>DataFlex study: " in (tmp_path / "page.html").read_text()
    with pytest.raises(ConfigError, match="is the folder of a study: name it alone"):
        run_report([folder, folder / "runs" / "loss" / "42"], tmp_path / "page.html", None)
