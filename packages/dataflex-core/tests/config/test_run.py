"""Reading run files: what is ours, what is LlamaFactory's, and what is refused."""

from __future__ import annotations

import json

import pytest

from dataflex.config.run import check_known_keys, check_values, read_run_file
from dataflex.errors import ConfigError
from dataflex.runs import Steps, TrainType

SELECT = """
stage: sft
learning_rate: 1e-4
save_strategy: no
output_dir: out
train_type: dynamic_select
component_name: loss
warmup_step: 4
update_step: 3
update_times: 2
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "run.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_our_keys_are_taken_off_and_the_rest_is_left_alone(write):
    run = read_run_file(write(SELECT))
    assert run.train_type is TrainType.SELECT
    assert run.steps() == Steps(warmup=4, update=3, times=2)
    assert run.llamafactory == {"stage": "sft", "learning_rate": 1e-4, "save_strategy": "no", "output_dir": "out"}


def test_overrides_win_nest_and_remember_where_they_came_from(write):
    run = read_run_file(write(SELECT), ["update_step=50", "component_params.temperature=0.5"])
    assert run.steps().update == 50
    assert run.ours["component_params"] == {"temperature": 0.5}
    assert run.origin("update_step") == "the command line"
    assert run.origin("component_params.temperature") == "the command line"
    assert run.origin("warmup_step") == "run.yaml"


def test_other_keys_interpolate(write):
    assert (
        read_run_file(write("output_dir: a/b\nlogging_dir: ${output_dir}/logs\n")).llamafactory["logging_dir"]
        == "a/b/logs"
    )


def test_a_json_file_is_a_run_file(write):
    run = read_run_file(write(json.dumps({"train_type": "static", "seed": 3}), "run.json"))
    assert (run.train_type, run.llamafactory) == (TrainType.STATIC, {"seed": 3})


def test_without_a_train_type_the_run_is_static(write):
    assert read_run_file(write("seed: 1")).train_type is TrainType.STATIC


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train_type: dynamic_selct",
            r"train_type: 'dynamic_selct' \(from run.yaml\).*Did you mean 'dynamic_select'\?",
        ),
        ("update_step: 0", r"update_step: 0 \(from run.yaml\) must be a whole number of at least 1\."),
        ("update_step: '50'", r"update_step: '50' \(from run.yaml\) must be a whole number"),
        ("update_times: -2", r"update_times: -2 \(from run.yaml\) must be a whole number of at least 1 \(or -1\)"),
        ("warmup_step: true", r"warmup_step: True \(from run.yaml\) must be"),
        ("warmup_step: 2.5", r"warmup_step: 2.5 \(from run.yaml\) must be"),
    ],
)
def test_a_bad_value_is_named_with_its_file(write, line, message):
    key = line.partition(":")[0]
    text = "\n".join(old for old in SELECT.splitlines() if not old.startswith(f"{key}:"))
    run = read_run_file(write(f"{text}\n{line}\n"))
    with pytest.raises(ConfigError, match=message):
        assert run.train_type is TrainType.SELECT
        run.steps()


def test_a_missing_key_is_named_and_its_misspelling_found(write):
    run = read_run_file(write(SELECT.replace("update_step:", "updat_step:")))
    with pytest.raises(ConfigError, match=r"update_step is missing from run.yaml.*Was it meant by 'updat_step'\?"):
        run.steps()


def test_every_wrong_step_key_is_told_at_once(write):
    text = "train_type: dynamic_mix\nwarmup_step: -1\nupdate_step: 1.5\ntrain_step: many\n"
    with pytest.raises(ConfigError) as caught:
        read_run_file(write(text)).steps()
    keys = [line.partition(":")[0].partition(" is missing")[0] for line in str(caught.value).splitlines()]
    assert keys == ["warmup_step", "update_step", "train_step"]


def test_update_times_is_not_needed_when_train_step_is_given(write):
    run = read_run_file(write(SELECT.replace("update_times: 2", "train_step: 9")))
    assert run.steps() == Steps(warmup=4, update=3, train=9)


def test_an_unknown_key_is_refused_with_the_nearest(write):
    run = read_run_file(write(SELECT + "learning_rat: 1\n"))
    with pytest.raises(
        ConfigError, match=r"unknown key learning_rat \(from run.yaml\)\. Did you mean 'learning_rate'\?"
    ):
        check_known_keys(run, frozenset({"stage", "learning_rate", "save_strategy", "output_dir"}))


@pytest.mark.parametrize(("section", "name"), [("doremi", "DoReMi"), ("regmix", "RegMix"), ("mixmin", "MixMin")])
def test_a_project_is_told_which_command_trains_it(write, section, name):
    with pytest.raises(
        ConfigError, match=f"unknown key {section}.*a {name} project, which `dataflex {section}` trains"
    ):
        check_known_keys(read_run_file(write(f"{section}: {{final: {{}}}}\n")), frozenset({"stage"}))


NUMBERS = {"learning_rate": float, "batch": int, "limit": int | None, "save_steps": float, "name": str | None}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rate: abc", r"learning_rate: 'abc' \(from run.yaml\) must be a number\."),
        ("batch: x", r"batch: 'x' \(from run.yaml\) must be a whole number\."),
        ("batch: 1.5", r"batch: 1.5 \(from run.yaml\) must be a whole number\."),
        ("batch: true", r"batch: True \(from run.yaml\) must be a whole number\."),
        ("limit: many", r"limit: 'many' \(from run.yaml\) must be a whole number\."),
    ],
)
def test_a_word_where_llamafactory_wants_a_number_is_refused(write, line, message):
    with pytest.raises(ConfigError, match=message):
        check_values(read_run_file(write(line)), NUMBERS)


def test_numbers_and_empty_values_pass(write):
    text = "learning_rate: 1e-4\nbatch: 2\nlimit: null\nsave_steps: 5\nname: a\nother: x\n"
    check_values(read_run_file(write(text)), NUMBERS)


def test_a_duplicate_key_is_refused(write):
    with pytest.raises(ConfigError, match=r"(?s)run.yaml cannot be read: .*duplicate key"):
        read_run_file(write("seed: 1\nseed: 2\n"))


def test_an_override_that_is_not_one_is_refused(write):
    with pytest.raises(ConfigError, match="'--seed' on the command line is not an override; write key=value"):
        read_run_file(write("seed: 1"), ["--seed", "3"])


def test_a_missing_run_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"run file .*absent.yaml does not exist \(working directory"):
        read_run_file(tmp_path / "absent.yaml")


def test_a_run_file_without_keys_is_refused(write):
    with pytest.raises(ConfigError, match="holds a list, not keys and values"):
        read_run_file(write("- 1\n- 2\n"))


def test_plugins_are_found_beside_the_run_file_then_in_the_working_directory(write, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for place in ("runs/beside.py", "here.py", "runs/both.py", "both.py"):
        (tmp_path / place).write_text("")
    run = read_run_file(write("plugins: [./beside.py, here.py, both.py, no:acme]", "runs/run.yaml"))
    assert run.plugins() == [
        *(str(tmp_path / name) for name in ("runs/beside.py", "here.py", "runs/both.py")),
        "no:acme",
    ]
    assert "plugins" not in run.llamafactory


def test_plugins_may_be_one_file_or_none_at_all(write, tmp_path):
    (tmp_path / "mine.py").write_text("")
    assert read_run_file(write("plugins: mine.py")).plugins() == [str(tmp_path / "mine.py")]
    assert read_run_file(write("stage: sft")).plugins() == []
    assert read_run_file(write("plugins:")).plugins() == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[./gone.py]", r"plugins: \./gone\.py \(from run\.yaml\) is not a file; looked for .*gone\.py"),
        ("[acme-tools]", "Installed plugins load by themselves"),
        ("{a: 1}", r"plugins: \{'a': 1\} \(from run\.yaml\) must be a list of files"),
        ("[1]", "must be a list of files"),
    ],
)
def test_plugins_that_are_not_files_are_refused(write, value, message):
    with pytest.raises(ConfigError, match=message):
        read_run_file(write(f"plugins: {value}")).plugins()


OBJECT = "!!python/object/apply:os.system ['echo run > pwned']"


@pytest.mark.parametrize("text", [f"seed: {OBJECT}", OBJECT, f"component_params: {{a: {OBJECT}}}"])
def test_a_run_file_cannot_make_python_objects(write, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)run.yaml cannot be read: .*could not determine a constructor"):
        read_run_file(write(text))
    assert not (tmp_path / "pwned").exists()


def test_an_override_cannot_make_python_objects(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)the command line cannot be read: .*could not determine a constructor"):
        read_run_file(write(SELECT), [f"seed={OBJECT}"])
    assert not (tmp_path / "pwned").exists()


def test_anchors_merge_keys_and_decoded_variables_are_read(write, monkeypatch):
    text = (
        "shared: &shared\n  focus: low\n  temperature: 2.0\ntrain_type: dynamic_select\n"
        "component_params:\n  <<: *shared\n  focus: high\nlearning_rate: ${oc.decode:${oc.env:LR,1e-3}}\n"
    )
    monkeypatch.delenv("LR", raising=False)
    run = read_run_file(write(text))
    assert run.ours["component_params"] == {"focus": "high", "temperature": 2.0}
    assert run.llamafactory["learning_rate"] == 1e-3
    monkeypatch.setenv("LR", "5e-4")
    assert read_run_file(write(text)).llamafactory["learning_rate"] == 5e-4
