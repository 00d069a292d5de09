"""Study files: defaults, overrides, and everything that is wrong at once."""

from __future__ import annotations

import json

import pytest
import yaml

from dataflex.errors import ConfigError
from dataflex.study.file import read_study_file
from dataflex.study.study_run import Cost

LEAST = {"base": "run.yaml", "arms": {"random": {}, "loss": {"component_name": "loss"}}, "metric": "eval_loss"}


@pytest.fixture
def study(tmp_path):
    """Write a study file beside a run file; gives its path."""
    (tmp_path / "run.yaml").write_text("seed: 1\n")

    def study(text=None, *, name="docstrings.yaml", **keys):
        path = tmp_path / name
        path.write_text(text if text is not None else yaml.safe_dump({**LEAST, **keys}, sort_keys=False))
        return path

    return study


def refusals(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        read_study_file(path, overrides)
    return str(caught.value).splitlines()


def test_the_least_file_has_defaults_for_all_else(study):
    path = study()
    found = read_study_file(path)
    assert (found.base, str(found.out)) == (path.parent / "run.yaml", "studies/docstrings")
    assert (found.baseline, [*found.arms], found.seeds, found.lengths) == ("random", ["random", "loss"], [42], [1])
    assert (found.lower, found.cost, found.prepare, found.evaluate) == (True, Cost.STEPS, [], [])
    assert found.arms["loss"].keys == {"component_name": "loss"} and found.arms["random"].keys == {}
    assert found.counts_index and found.resolved["shared_index"] == "counted"


def test_every_key_is_read(study):
    path = study(
        out="here",
        baseline="loss",
        seeds=[1, 2],
        direction="higher",
        baseline_lengths=[4, 0.5],
        cost="cpu_seconds",
        shared_index="free",
        prepare="python make.py --seed {seed} 'two words'",
        evaluate=["score", "{output_dir}"],
    )
    found = read_study_file(path)
    assert (str(found.out), found.baseline, found.seeds, found.lower) == ("here", "loss", [1, 2], False)
    assert found.lengths == [0.5, 1, 4] and found.cost is Cost.CPU_SECONDS
    assert found.prepare == ["python", "make.py", "--seed", "{seed}", "two words"]
    assert found.evaluate == ["score", "{output_dir}"] and not found.counts_index
    assert json.loads(json.dumps(found.resolved))["baseline_lengths"] == [0.5, 1, 4]


def test_the_command_line_replaces_keys_of_the_file_nested_ones_too(study):
    found = read_study_file(study(), ["seeds=[7]", "arms.loss.component_params.focus=low", "arms.new={}", "metric=no"])
    assert found.seeds == [7] and [*found.arms] == ["random", "loss", "new"] and found.metric == "no"
    assert found.arms["loss"].keys == {"component_name": "loss", "component_params": {"focus": "low"}}


def test_interpolations_of_arms_are_left_to_their_runs(study):
    found = read_study_file(study(arms={"random": {"model_name_or_path": "data/${seed}/model"}}))
    assert found.arms["random"].keys == {"model_name_or_path": "data/${seed}/model"}


def test_interpolations_of_other_keys_are_filled_in(study, monkeypatch):
    monkeypatch.setenv("STUDIES", "here")
    found = read_study_file(study(out="${oc.env:STUDIES}/x", prepare=["make", "${metric}"], metric="eval_loss"))
    assert str(found.out) == "here/x" and found.prepare == ["make", "eval_loss"]
    (line,) = refusals(study(out="${oc.env:NOT_SET_ANYWHERE}"))
    assert "NOT_SET_ANYWHERE is not set" in line


def test_base_is_looked_for_beside_the_file_and_then_in_the_working_directory(study, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.yaml").write_text("seed: 1\n")
    monkeypatch.chdir(elsewhere)
    assert read_study_file(study()).base == tmp_path / "run.yaml"
    assert read_study_file(study(base="other.yaml")).base.resolve() == elsewhere / "other.yaml"


def test_everything_wrong_with_a_file_is_told_at_once(study):
    path = study(
        base="gone.yaml",
        arms={"a b": {}, "loss": {"seed": 3}, "Loss": {}, "third": 5, "fourth": {"command": "doremy"}},
        baseline="los",
        seeds=[1, 1, 2],
        metric=None,
        direction="down",
        baseline_lengths=[0, 1],
        cost="step",
        prepare="echo 'open",
        evaluate=5,
        seads=[1],
    )
    told = refusals(path)
    expected = [
        "unknown key seads (from docstrings.yaml). Did you mean 'seeds'?",
        "metric is missing from docstrings.yaml.",
        "base: 'gone.yaml' (from docstrings.yaml) does not exist; looked for",
        "arms: 'a b' (from docstrings.yaml) is no name of an arm",
        "arms.loss.seed: 3 (from docstrings.yaml) is set by the study for each run.",
        "arms: 'Loss' (from docstrings.yaml) and 'loss' differ in case alone",
        "arms.third: 5 (from docstrings.yaml) must be a mapping",
        "arms.fourth.command: 'doremy' (from docstrings.yaml) must be one of doremi, regmix, mixmin. Did you mean "
        "'doremi'?",
        "baseline: 'los' (from docstrings.yaml) is none of the arms loss, fourth. Did you mean 'loss'?",
        "seeds: [1, 1, 2] (from docstrings.yaml) names 1 more than once.",
        "baseline_lengths: [0, 1] (from docstrings.yaml) must be a list of numbers above 0",
        "direction: 'down' (from docstrings.yaml) must be one of lower, higher.",
        "cost: 'step' (from docstrings.yaml) must be one of steps, seconds, cpu_seconds. Did you mean 'steps'?",
        'prepare: "echo \'open" (from docstrings.yaml) is no command: No closing quotation.',
        "evaluate: 5 (from docstrings.yaml) must be a command",
    ]
    assert len(told) == len(expected)
    assert [line for line, wanted in zip(told, expected, strict=True) if not line.startswith(wanted)] == []


@pytest.mark.bad_input("a misspelt key", file="a study file")
def test_a_misspelt_key_is_told_with_the_nearest(study, seen):
    assert "Did you mean 'seeds'?" in seen("\n".join(refusals(study(seads=[1]))))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"seeds": []}, "seeds: [] (from"),
        ({"seeds": [1.5]}, "seeds: [1.5] (from"),
        ({"seeds": [True]}, "seeds: [True] (from"),
        ({"seeds": [-1]}, "seeds: [-1] (from"),
        ({"baseline_lengths": [True]}, "baseline_lengths: [True] (from"),
        ({"baseline_lengths": [float("inf")]}, "baseline_lengths: [inf] (from"),
        ({"baseline_lengths": [2, 2.0]}, "baseline_lengths: [2, 2.0] (from docstrings.yaml) names 2 more than once"),
        ({"arms": {}}, "arms: {} (from"),
        ({"arms": [1]}, "arms: [1] (from"),
        ({"arms": {"@2": {}}}, "arms: '@2' (from"),
        ({"arms": {"..": {}}}, "arms: '..' (from"),
        ({"arms": {7: {}}}, "arms.7: 7 (from docstrings.yaml) is no text"),
        ({"arms": {"x": {"command": "doremi"}}}, "baseline: 'x' (from docstrings.yaml) is a command."),
        ({"out": ["x"]}, "out: ['x'] (from docstrings.yaml) must be a text."),
        ({"prepare": []}, "prepare: [] (from docstrings.yaml) must be a command"),
        ({"base": ""}, "base: '' (from docstrings.yaml) must be the path of a run file."),
    ],
)
def test_a_wrong_value_is_told_with_its_key(study, keys, told):
    (line,) = refusals(study(**keys))
    assert line.startswith(told)


def test_files_that_are_no_study_files_are_named(study, tmp_path):
    assert "does not exist" in refusals(tmp_path / "none.yaml")[0]
    assert "holds [1], not keys and values" in refusals(study("[1]\n"))[0]
    assert refusals(study("a: 1\na: 2\n"))[0].startswith("study file ")
    assert "is not an override" in refusals(study(), "--seeds")[0]


def test_a_command_arm_keeps_its_own_section(study):
    arms = {"random": {}, "doremi": {"command": "doremi", "doremi": {"proxy": {"max_steps": 5}}}}
    found = read_study_file(study(arms=arms)).arms["doremi"]
    assert (found.command, found.keys) == ("doremi", {"doremi": {"proxy": {"max_steps": 5}}})


def test_a_file_of_json_is_read_too(study):
    assert [*read_study_file(study(json.dumps(LEAST), name="s.json")).arms] == ["random", "loss"]
