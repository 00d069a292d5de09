"""The decision log: append-only, survives a kill, continues on resume."""

from __future__ import annotations

import json

import pytest

from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError
from dataflex.spec import Kind


def decision(step: int, **more) -> Decision:
    return Decision(
        step=step,
        stage=1,
        kind=Kind.SELECTOR,
        component="loss",
        dist="d",
        version="1",
        params={"focus": "high"},
        seconds=0.5,
        seed=3,
        **more,
    )


def test_a_decision_survives_the_file(tmp_path):
    log = DecisionLog(tmp_path / "run")
    log.append(decision(20, metrics={"score_quantiles": [1.0, 2.0], "pool": 9.0}, result_ref="decisions/x.npy"))
    (read,) = log
    assert read == decision(20, metrics={"score_quantiles": [1.0, 2.0], "pool": 9.0}, result_ref="decisions/x.npy")
    assert json.loads(log.path.read_text())["schema"] == 1


def test_resuming_drops_the_decisions_that_will_be_taken_again(tmp_path):
    log = DecisionLog(tmp_path)
    for step in (20, 50, 80):
        log.append(decision(step))
    log.truncate(50)
    assert [record.step for record in log] == [20]


def test_a_line_cut_short_by_a_kill_is_dropped_on_resume(tmp_path):
    log = DecisionLog(tmp_path)
    log.append(decision(20))
    with log.path.open("a") as file:
        file.write('{"step": 50, "sta')
    assert [record.step for record in log] == [20]
    log.truncate(80)
    log.append(decision(50))
    assert [record.step for record in log] == [20, 50]


def test_damage_in_the_middle_is_named(tmp_path):
    log = DecisionLog(tmp_path)
    log.path.write_text("nonsense\n" + decision(20).to_json() + "\n")
    with pytest.raises(ConfigError, match=r"decisions.jsonl, line 1 is not a decision record"):
        list(log)


def test_fields_of_a_later_schema_are_ignored(tmp_path):
    log = DecisionLog(tmp_path)
    log.path.write_text(json.dumps({**json.loads(decision(20).to_json()), "later": 1}) + "\n")
    assert [record.step for record in log] == [20]


@pytest.mark.parametrize("name", ["result_ref", "plan_ref"])
@pytest.mark.parametrize("reference", ["../../other/step.npy", "/etc/passwd", "decisions/../../x.npy", "C:\\x.npy"])
def test_a_record_that_names_a_file_outside_the_run_is_refused_even_in_the_last_line(tmp_path, name, reference):
    log = DecisionLog(tmp_path)
    log.append(decision(20, **{name: reference}))
    with pytest.raises(
        ConfigError, match=rf"line \d is not a decision record .*{name}.* leads out of the run's output"
    ):
        list(log)
