"""What a study is refused for before its first run."""

from __future__ import annotations

import logging

import pytest
import yaml

from dataflex.errors import ConfigError
from dataflex.study.arms import Base
from dataflex.study.checks import Checker, Tools, refuse_alike
from dataflex.study.file import read_study_file
from dataflex.study.identity import identity
from dataflex.study.plan import Plan

BASE = {
    "do_eval": True,
    "eval_dataset": "docs,code",
    "eval_on_each_dataset": True,
    "train_type": "dynamic_select",
    "component_name": "random",
    "warmup_step": 2,
    "update_step": 3,
    "update_times": 3,
}
ARMS = {"random": {}, "loss": {"component_name": "loss"}}


@pytest.fixture
def check(tmp_path):
    """Check a study's runs; gives the identities."""
    asked = []

    def check(base=None, arms=ARMS, refusals=None, **keys):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({**BASE, **(base or {})}))
        given = {"base": "run.yaml", "arms": arms, "metric": "eval_docs_loss", "seeds": [1, 2], "out": "out", **keys}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        study = read_study_file(tmp_path / "study.yaml")
        runs = Plan(study, Base.read(study.base), study.lengths).runs()

        def refuse(run):
            asked.append(run.path.stem)
            logging.getLogger("dataflex").warning("one warning for all")
            if said := (refusals or {}).get(run.path.stem.rpartition("-")[0]):
                raise ConfigError(said)

        tools = Tools(check=refuse, check_command=lambda command, run: refuse(run), defaults={})
        checked = Checker(study, tools).check(runs)
        found = {run.name: identity(run.run, checked[run.name], run.steps, {}) for run in runs}
        refuse_alike(found, [run for run in runs if run.seed == 1])
        return found

    check.asked = asked
    return check


def refusals(check, *args, **keys):
    with pytest.raises(ConfigError) as caught:
        check(*args, **keys)
    return str(caught.value).splitlines()


def test_arms_that_differ_in_the_seed_alone_are_checked_once(check):
    found = check(baseline_lengths=[1, 2])
    assert check.asked == ["random-1", "loss-1", "random@2-1"]
    assert [*found] == ["random-1", "loss-1", "random@2-1", "random-2", "loss-2", "random@2-2"]
    assert found["random-1"]["seed"] == 1 and found["random-2"]["seed"] == 2


def test_arms_whose_keys_ask_for_the_seed_are_checked_for_each(check):
    check({"model_name_or_path": "data/${seed}/model"})
    assert check.asked == ["random-1", "loss-1", "random-2", "loss-2"]


def test_all_problems_of_all_arms_are_told_at_once_with_the_arm(check):
    told = refusals(check, refusals={"loss": "first thing\nsecond thing", "random@2": "too long"},
                    baseline_lengths=[2], metric="eval_dox_loss")  # fmt: skip
    assert told == [
        "arms random, loss, random@2: metric: eval_dox_loss (from study.yaml) will not be measured. Did you mean "
        "'eval_docs_loss'?",
        "arm loss: first thing",
        "arm loss: second thing",
        "arm random@2: too long",
    ]


def test_a_warning_that_arms_share_is_said_once(check, caplog):
    check({"model_name_or_path": "data/${seed}/model"})
    assert [record.message for record in caplog.records] == ["one warning for all"]


@pytest.mark.parametrize("base", [{"do_eval": False}, {"eval_dataset": None}])
def test_a_base_that_does_not_evaluate_is_refused(check, base):
    told = refusals(check, base)
    assert told[0].startswith("arms random, loss: it does not evaluate: ") and len(told) == 1
    assert len(check(base, evaluate="score", metric="accuracy")) == 4


@pytest.mark.parametrize("metric", ["eval_docs_loss", "eval_code_runtime", "epoch"])
def test_every_number_that_an_evaluation_has_may_be_the_metric(check, metric):
    assert len(check(metric=metric)) == 4


def test_where_keys_do_not_tell_the_metric_is_looked_for_later(check):
    assert len(check({"stage": "ppo"}, metric="reward")) == 4


def test_arms_alike_but_for_their_names_are_refused_the_baseline_too(check):
    arms = {"random": {}, "same": {"train_step": 11}, "loss": {"component_name": "loss"}}
    (line,) = refusals(check, arms=arms)
    assert line == "arms random and same are alike but for their names: they would train the same. Drop one."


def test_a_static_run_has_no_cpu_seconds_to_be_compared_by(check):
    arms = {"random": {}, "plain": {"train_type": "static"}}
    (line,) = refusals(check, arms=arms, cost="cpu_seconds")
    assert line.startswith("arm plain: cost: cpu_seconds is not known of a static run")
    assert len(check(arms=arms, cost="seconds")) == 4


def test_a_command_is_asked_itself(check):
    arms = {"random": {}, "doremi": {"command": "doremi"}}
    assert refusals(check, arms=arms, refusals={"doremi": "no domains"}) == ["arm doremi: no domains"]
