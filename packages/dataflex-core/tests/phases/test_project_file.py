"""A project file is read as a run file is: names, dots, unset variables, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataflex.errors import ConfigError
from dataflex.phases.project_file import read_items, read_project

FILE = """
dataset: [en, no, 2023]
eval_dataset: no
save_strategy: no
output_dir: ~/out
doremi:
  reference: {init_mixture_proportions: {en: 0.5, no: 0.3, 2023: 0.2}, model_name_or_path: ~/small}
  proxy: {component_params: {points: {2: 1}}, dataset: no}
  targets: {no: 1, v1.5: 2}
  target: no
  final:
"""


def read(tmp_path: Path, *overrides: str, file: str = FILE) -> dict[str, Any]:
    path = tmp_path / "run.yaml"
    path.write_text(file)
    return read_project(path, overrides, "doremi", ("targets", "target"))


def test_a_word_that_can_only_be_a_name_is_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    keys = read(tmp_path)
    section = keys["doremi"]
    assert keys["dataset"] == ["en", "no", "2023"] and keys["eval_dataset"] == "no"
    assert section["reference"]["init_mixture_proportions"] == {"en": 0.5, "no": 0.3, "2023": 0.2}
    assert section["targets"] == {"no": 1, "v1.5": 2} and section["target"] == "no"
    assert section["proxy"] == {"component_params": {"points": {2: 1}}, "dataset": "no"}
    assert (keys["output_dir"], section["reference"]["model_name_or_path"]) == ("/home/me/out", "/home/me/small")
    assert section["final"] is None


def test_what_is_below_a_key_of_names_may_have_a_dot(tmp_path: Path) -> None:
    keys = read(
        tmp_path,
        "init_mixture_proportions.v1.5=0.5",
        "doremi.reference.init_mixture_proportions.v2.0=0.1",
        "doremi.targets.v3.1=3",
        "doremi.targets.no=4",
        "doremi.proxy.component_params.points.2=5",
    )
    assert keys["init_mixture_proportions"] == {"v1.5": 0.5}
    assert keys["doremi"]["reference"]["init_mixture_proportions"]["v2.0"] == 0.1
    assert keys["doremi"]["targets"] == {"no": 4, "v1.5": 2, "v3.1": 3}
    assert keys["doremi"]["proxy"]["component_params"] == {"points": {2: 5}}


def test_items_of_no_file_name_things_alike() -> None:
    assert read_items(["targets.v1.5=1", "prior={no: 2}"], ("targets", "prior")) == {
        "targets": {"v1.5": 1},
        "prior": {"no": 2},
    }


@pytest.mark.parametrize(
    ("file", "overrides", "told"),
    [
        ("seed: ${oc.env:NOWHERE}\n", (), "seed: the environment variable NOWHERE is not set"),
        ("seed: ${nothing}\n", (), "seed: Interpolation key 'nothing' not found"),
        ("- a\n", (), "holds a list, not keys and values"),
        ("{1: a, 0x1: b}\n", (), "found duplicate key 0x1"),
        (FILE, ("--dataset=web",), "is not an override; write key=value, without dashes"),
        (FILE, ("doremi..x=1",), "has no name before or after a dot"),
    ],
)
def test_what_cannot_be_read_is_told_as_of_a_run_file(
    tmp_path: Path, file: str, overrides: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, *overrides, file=file)
    assert told in str(refused.value) and "full_key" not in str(refused.value)
