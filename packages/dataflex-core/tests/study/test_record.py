"""study.json and study.csv: written whole, read back, refused if they are another version's."""

from __future__ import annotations

import csv
import json

import pytest

from dataflex.errors import ConfigError
from dataflex.study.compare import Question, compare
from dataflex.study.record import StudyRecord, machine, of_arms, read_record, versions
from dataflex.study.study_run import Cost, Status, StudyRun


def run(arm, seed, value, *, length=1.0, status=Status.DONE, **more):
    return StudyRun(
        arm=arm,
        seed=seed,
        length=length,
        steps=100,
        status=status,
        metrics={"eval_a_loss": value, "eval_b_loss": None},
        metric=value,
        cost={"steps": 100.0, "seconds": 50.123456789012345, "cpu_seconds": None},
        deciding={"steps": 0.0, "seconds": 0.0, "cpu_seconds": None},
        seconds={"starting": None, "training": 50.0},
        output_dir=f"runs/{arm}/{seed}",
        **more,
    )


RUNS = [run("random", 1, 4.7), run("loss", 1, 4.6), run("loss", 2, None, status=Status.FAILED, error="it, failed")]


def record(runs=RUNS):
    asked = Question(
        baseline="random", arms=("random", "loss"), seeds=(1, 2), metric="eval_a_loss", lower=True, cost=Cost.STEPS
    )
    arms = of_arms(compare(runs, asked))
    return StudyRecord(
        study={"metric": "eval_a_loss"}, machine=machine(), versions=versions(), runs=runs, arms=arms, total=100
    )


def test_a_record_is_read_back_as_it_was_written_to_the_last_digit(tmp_path):
    record().write(tmp_path)
    found = read_record(tmp_path)
    assert found.runs == RUNS and found.total == 100 and found.runs[0].cost["seconds"] == 50.123456789012345
    assert found.arms["loss"]["equal_steps"]["gains"] == [pytest.approx(0.1)]
    assert found.versions["scipy"] and read_record(tmp_path / "elsewhere") is None


def test_the_fields_are_those_of_the_documentation(tmp_path):
    record().write(tmp_path)
    text = json.loads((tmp_path / "study.json").read_text())
    assert next(iter(text)) == "schema" and text["schema"] == 1
    assert {"study", "machine", "versions", "runs", "arms"} <= text.keys()
    assert {"arm", "seed", "length", "steps", "status", "error", "metrics", "metric", "cost", "seconds", "output_dir",
            "fingerprint"} <= text["runs"][0].keys()  # fmt: skip
    pairs = {"n", "seeds", "gains", "mean", "sd", "interval", "p", "p_holm", "better"}
    assert pairs <= text["arms"]["loss"]["equal_steps"].keys()
    assert pairs | {"outside"} <= text["arms"]["loss"]["equal_cost"].keys()
    assert {"rho", "deciding", "allowed", "pays", "others", "verdict"} <= text["arms"]["loss"].keys()


def test_a_number_that_is_none_is_null(tmp_path):
    record([run("random", 1, float("nan"))]).write(tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["runs"][0]["metric"] is None


def test_the_table_has_a_line_a_run(tmp_path):
    record().write(tmp_path)
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == [
        *("arm", "seed", "length", "steps", "status", "metric", "cost_steps", "cost_seconds", "cost_cpu_seconds"),
        *("eval_a_loss", "eval_b_loss"),
    ]
    assert (rows[0]["arm"], rows[0]["metric"], rows[0]["cost_cpu_seconds"]) == ("random", "4.7", "")
    assert (rows[2]["status"], rows[2]["metric"]) == ("failed", "")


def test_a_record_of_a_later_version_is_refused(tmp_path):
    record().write(tmp_path)
    path = tmp_path / "study.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ConfigError, match=r"later version of dataflex-core \(schema 2; this one knows 1\)"):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", '{"schema": 1}', "null"])
def test_what_is_no_record_is_named(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ConfigError, match=r"is not the record of a study .*no run is lost"):
        read_record(tmp_path)
