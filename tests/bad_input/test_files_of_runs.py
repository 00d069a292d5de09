"""What runs write and later read again: each file is taken as it says, or refused with its name and the field."""

from __future__ import annotations

import json

import numpy as np
import pytest
from json_mutations import spoilt
from synthetic_runs import write_run

from dataflex.checkpoint import state
from dataflex.checkpoint.damage import why_damaged
from dataflex.cli.report import run_report
from dataflex.config.mixture import read_mixture
from dataflex.config.run import read_run_file
from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError
from dataflex.mixing.proportions import check_proportions
from dataflex.spec import Kind

WEIGHTS = {"names": ["web", "code"], "average": [0.25, 0.75], "last": [0.5, 0.5], "steps": 9, "hashes": {"pool": "a"}}
ENGINE = {
    **{"step": 5, "stage": 1, "plan_start": 2, "warmup": 2, "update": 3, "total": 8, "seed": 3, "global_batch": 4},
    **{"pool_size": 9, "pool_fingerprint": "f", "component": "mixer c", "domains": ["web", "code"]},
    **{"planner": {"cursor": 4}, "log": {"loss_sums": [0.5]}, "params": {"a": 1}, "versions": {"core": "1"}},
}


def test_every_spoilt_file_of_weights_is_taken_or_refused_by_name(tmp_path):
    (tmp_path / "run.yaml").write_text("train_type: static_mix\ninit_mixture_proportions: from:weights.json\n")
    run, taken = read_run_file(tmp_path / "run.yaml"), []
    for what, text in spoilt(WEIGHTS):
        (tmp_path / "weights.json").write_text(text)
        try:
            initial = read_mixture(run).initial
            check_proportions(initial, ("web", "code"), "weights.json")
        except ConfigError as error:
            assert "weights.json" in str(error), (what, str(error))
            continue
        assert initial == {"web": 0.25, "code": 0.75}, what
        taken.append(what)
    assert taken and not any(what.startswith(("names", "average", "without names", "cut")) for what in taken)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(text, reason, marks=pytest.mark.bad_input(what, file="weights.json"), id=what)
        for what, text, reason in [
            ("lists of two lengths", '{"names": ["web"], "average": [0.5, 0.5]}', "'names' has 1 and 'average' 2"),
            ("a share that is a text", '{"names": ["web"], "average": ["1"]}', "something else than finite numbers"),
            ("a field that stands twice", '{"names": [], "names": [], "average": []}', "duplicate key 'names'"),
            ("no average", '{"names": ["web"]}', "'average' is missing"),
        ]
    ],
)
def test_weights_that_are_none_are_refused_with_the_field(tmp_path, text, reason, seen):
    (tmp_path / "run.yaml").write_text("train_type: static_mix\ninit_mixture_proportions: from:weights.json\n")
    (tmp_path / "weights.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_mixture(read_run_file(tmp_path / "run.yaml"))
    assert reason in seen(str(caught.value))


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint-5"
    state.save(folder, state.Saved(state.EngineState(**ENGINE), np.array([3, 1, 2]), {}))
    state.mark_complete(folder)
    return folder


def test_every_spoilt_record_of_the_engine_is_noticed_by_its_checksum(checkpoint):
    path = checkpoint / "dataflex" / "engine.json"
    for what, text in spoilt(json.loads(path.read_text())):
        path.write_text(text)
        assert "engine.json is damaged" in why_damaged(checkpoint), what


def test_every_spoilt_record_of_the_engine_that_was_signed_again_is_taken_or_refused_by_name(checkpoint):
    path, taken = checkpoint / "dataflex" / "engine.json", []
    whole = json.loads(path.read_text())
    for what, text in spoilt(whole):
        path.write_text(text)
        state.mark_complete(checkpoint)
        try:
            saved = state.load(checkpoint)
        except ConfigError as error:
            field = what.removeprefix("without ").partition(" ")[0].partition(".")[0]
            told = str(error)
            assert "engine.json" in told or field == "sha256", (what, told)
            assert field in told or field in ("cut", "not", "nested", "text", *_SCHEDULE, "sha256"), (what, told)
            continue
        record = json.loads(text)
        assert all(getattr(saved.engine, name) == record[name] for name in ENGINE), what
        taken.append(what)
    assert "one field more" in taken


_SCHEDULE = ("warmup", "update", "total")  # these are told together, as the schedule they make


def test_every_spoilt_decision_is_read_as_it_says_or_refused_with_the_line(tmp_path):
    folder = write_run(tmp_path / "run", boundaries=2)
    path = folder / "decisions.jsonl"
    first, second = path.read_text().splitlines()
    for what, text in spoilt(json.loads(second)):
        path.write_text(f"{first}\n{text}\n{first}\n")
        try:
            read = list(DecisionLog(folder))
        except ConfigError as error:
            field = what.removeprefix("without ").partition(" ")[0].partition(".")[0]
            assert "decisions.jsonl, line 2 is not a decision record" in str(error)
            assert field in str(error) or field in ("cut", "not", "nested", "text"), (what, str(error))
            continue
        record = json.loads(text)
        given = {name: json.loads(read[1].to_json()).get(name) for name in record if name != "of_a_later_version"}
        assert json.dumps(given) == json.dumps({name: record[name] for name in given}), what
        DecisionLog(folder).truncate(read[0].step)  # as a resumed run does
        path.write_text("")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.SELECTOR, Kind.MIXER])
def test_a_report_shows_every_spoilt_decision_that_is_read_or_refuses_it_by_name(tmp_path, kind):
    folder = write_run(tmp_path / "run", kind, boundaries=2)
    path = folder / "decisions.jsonl"
    first, second, *_ = path.read_text().splitlines()
    for what, text in list(spoilt(json.loads(second)))[::29]:
        path.write_text(f"{first}\n{text}\n")
        try:
            run_report([folder], tmp_path / "report.html", None)
        except ConfigError as error:
            assert "decisions.jsonl" in str(error) or "plan" in str(error), (what, str(error))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(line, reason, marks=pytest.mark.bad_input(what, file="decisions.jsonl"), id=what)
        for what, line, reason in [
            ("a text for a step", {"step": "5"}, "'step' is '5', not a whole number"),
            ("a step below 0", {"step": -5}, "'step' is -5, not a finite number of at least 0"),
            ("an unknown kind", {"kind": "chooser"}, "'kind' is 'chooser', not selector or mixer or weighter"),
            ("an enormous stage", {"stage": 10**30}, "'stage' is 1" + "0" * 30 + ", not a whole number"),
        ]
    ],
)
def test_a_decision_with_a_wrong_field_is_refused_with_the_field(tmp_path, line, reason, seen):
    folder = write_run(tmp_path / "run", boundaries=2)
    path = folder / "decisions.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps({**json.loads(second), **line})}\n")
    with pytest.raises(ConfigError) as caught:
        list(DecisionLog(folder))
    assert reason in seen(str(caught.value))


@pytest.mark.bad_input("a last line that is whole and wrong", file="decisions.jsonl")
def test_only_a_line_without_its_end_counts_as_cut_short(tmp_path, seen):
    folder = write_run(tmp_path / "run", boundaries=2)
    path = folder / "decisions.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 50, "sta')
    assert len(list(DecisionLog(folder))) == 2
    path.write_bytes(whole.encode() + b"\xff\xfe\n")
    with pytest.raises(ConfigError) as caught:
        list(DecisionLog(folder))
    assert "decisions.jsonl, line 3 is not a decision record" in seen(str(caught.value))
