"""A tokenised folder is held to the keys before a model loads, under every command, and records say what was done."""

from __future__ import annotations

import pytest
from tiny_runs import NOTE_MIX, NOTE_SELECT, POOL

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError
from dataflex.made_from import NAME
from dataflex.record.run import RunRecord
from dataflex.report.read import read_run
from dataflex.report.tables import settings

pytestmark = pytest.mark.slow


@pytest.fixture
def no_model(monkeypatch):
    import llamafactory.train.sft.workflow as workflow

    def deny():
        monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))

    return deny


def refused(command, *arguments):
    with pytest.raises(ConfigError) as error:
        command(*arguments)
    return str(error.value)


def test_a_folder_made_under_other_keys_is_refused_and_one_of_unknown_keys_is_recorded_as_that(
    workshop, train, no_model, caplog
):
    path = workshop.out / "tokenised"
    keys = NOTE_SELECT | {"component_name": "less", "eval_dataset": "val", "tokenized_path": str(path)}
    run = workshop.run_file(**keys)
    train(run)
    info = RunRecord(workshop.out / "run").info()
    assert info.arguments["dataset"] == "tiny" and info.data["cutoff_len"] == 96 and not info.unchecked

    (path / NAME).rename(workshop.out / NAME)  # as LlamaFactory leaves it
    other = workshop.run_file("other", **keys | {"template": "default"})
    train(other)
    info = RunRecord(workshop.out / "other").info()
    assert {"dataset", "eval_dataset", "template", "cutoff_len"} <= info.unchecked.keys()
    assert not info.unchecked.keys() & info.arguments.keys() and "template" not in info.data
    told = [message for message in caplog.messages if "nobody has written down" in message]
    assert len(told) == 1 and "dataset" in told[0] and "template" in told[0]
    head = settings(read_run(workshop.out / "other", "other"))["Asked for, but not known of the tokenised rows"]
    assert head["template"] == "default"
    with pytest.raises(SystemExit) as ended:
        train(other)  # the same command on the run that has ended
    assert ended.value.code == 0

    no_model()
    third = workshop.run_file("third", **keys)
    assert f"it holds {POOL} rows, and dataset: other has 24 at most" in refused(train, third, "dataset=other")
    (workshop.out / NAME).rename(path / NAME)
    for changed in ("dataset=other", "eval_dataset=other"):
        message = refused(train, third, changed)
        key, _, value = changed.partition("=")
        assert f"{key} was " in message and f"and is now {value!r}" in message
    options = ScoreOptions(component="loss", out=workshop.out / "s", checkpoint=None, keep_top=None, keep=None)
    assert "dataset was 'tiny' and is now 'other'" in refused(run_score, run, ["dataset=other"], [], options)


def test_a_mix_run_and_a_static_run_look_too(workshop, train, no_model, caplog):
    mix = NOTE_MIX | {"tokenized_path": str(workshop.out / "mix")}
    train(workshop.run_file("mixed", **mix))
    plain = {"tokenized_path": str(workshop.out / "plain"), "max_steps": 1}
    train(workshop.run_file("static", **plain))
    train(workshop.run_file("again", **plain | {"dataset": "other"}))
    assert "dataset was 'tiny' and is now 'other'. This static run trains on it as it is." in caplog.text
    no_model()
    message = refused(train, workshop.run_file("third", **mix), "cutoff_len=64", "max_samples=10")
    assert "cutoff_len was 96 and is now 64; max_samples was null and is now 10" in message
