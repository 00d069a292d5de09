"""Names with dots, and whole numbers for keys, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError

FILE = """
train_type: dynamic_mix
init_mixture_proportions: {v1.5: 0.7, v2.0: 0.3}
component_params:
  points: {2: {v1.5: 0.7, team/web: 0.3}, 8: {v1.5: 0.3, team/web: 0.7}}
  layers: {"3": 1}
  plain: {a: {b: 1}}
"""


def ours(tmp_path: Path, *overrides: str, file: str = FILE) -> dict[str, Any]:
    path = tmp_path / "run.yaml"
    path.write_text(file)
    return dict(read_run_file(path, overrides).ours)


def test_a_name_with_a_dot_that_stands_in_the_file_is_reached(tmp_path: Path) -> None:
    found = ours(tmp_path, "init_mixture_proportions.v1.5=0.5", "init_mixture_proportions.v2.0=0.5")
    assert found["init_mixture_proportions"] == {"v1.5": 0.5, "v2.0": 0.5}


def test_below_a_key_of_names_everything_after_the_first_dot_is_one(tmp_path: Path) -> None:
    file = "train_type: dynamic_mix\n"
    found = ours(tmp_path, "mixture_max_epochs.v1.5=2", "init_mixture_proportions.a.b.c=1.0", file=file)
    assert (found["mixture_max_epochs"], found["init_mixture_proportions"]) == ({"v1.5": 2}, {"a.b.c": 1.0})


def test_a_key_of_names_may_lie_deeper(tmp_path: Path) -> None:
    from dataflex.config.reading import read_dotlist

    found = read_dotlist(["arms.small.init_mixture_proportions.v1.5=0.5", "arms.small.learning_rate=1"])[0]
    assert found == {"arms": {"small": {"init_mixture_proportions": {"v1.5": 0.5}, "learning_rate": 1}}}


def test_a_point_of_a_schedule_is_reached_by_its_number(tmp_path: Path) -> None:
    params = ours(
        tmp_path,
        "component_params.points.8={team/web: 0.5, v1.5: 0.5}",
        "component_params.points.2.v1.5=0.6",
        "component_params.points.12={v1.5: 1.0}",
        "component_params.layers.3=2",
    )["component_params"]
    assert params["points"] == {
        2: {"v1.5": 0.6, "team/web": 0.3},
        8: {"team/web": 0.5, "v1.5": 0.5},
        12: {"v1.5": 1.0},
    }
    assert params["layers"] == {"3": 2}  # texts stay texts


def test_ordinary_keys_are_separated_by_dots_as_ever(tmp_path: Path) -> None:
    params = ours(tmp_path, "component_params.plain.a.b=2", "component_params.new.x=1")["component_params"]
    assert (params["plain"], params["new"]) == ({"a": {"b": 2}}, {"x": 1})


def test_a_name_in_brackets_is_one(tmp_path: Path) -> None:
    assert ours(tmp_path, "init_mixture_proportions[v1.5]=0.5")["init_mixture_proportions"]["v1.5"] == 0.5


def test_a_number_in_brackets_is_the_number_that_stands_there(tmp_path: Path) -> None:
    points = ours(
        tmp_path,
        "component_params.points[8].v1.5=0.5",
        "component_params.points[2][team/web]=0.4",
        "component_params.points[12]={v1.5: 1.0}",
        file=FILE.replace("v1.5: 0.3, team", "v1: {'5': 0.3}, team"),
    )["component_params"]["points"]
    assert points[8] == {"v1": {"5": 0.5}, "team/web": 0.7}  # outside brackets a dot separates
    assert points[2]["team/web"] == 0.4 and points[12] == {"v1.5": 1.0} and list(points) == [2, 8, 12]


def test_a_value_that_is_no_yaml_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        ours(tmp_path, "seed=1", "init_mixture_proportions={v1.5: 0.5")
    told = "the value of init_mixture_proportions on the command line cannot be read: did not find expected ',' or '}'."
    assert str(refused.value) == told


def test_an_unset_environment_variable_is_told_in_our_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ConfigError) as refused:
        ours(tmp_path, file="seed: ${oc.env:NOWHERE}\n")
    assert "seed: the environment variable NOWHERE is not set" in str(refused.value)
    assert "${oc.env:NOWHERE,...}" in str(refused.value) and "full_key" not in str(refused.value)
    monkeypatch.setenv("NOWHERE", "7")
    path = tmp_path / "run.yaml"
    assert read_run_file(path).llamafactory["seed"] == "7"


@pytest.mark.parametrize("text", ["a: ${b}", "a: ${oc.decode:[}"])
def test_no_message_shows_the_objects_of_the_reader(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ours(tmp_path, file=text + "\n")
    assert "object_type" not in str(refused.value) and "full_key" not in str(refused.value)
