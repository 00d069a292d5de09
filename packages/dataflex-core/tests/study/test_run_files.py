"""A run file that was written is read back as it was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dataflex.config.run import read_run_file
from dataflex.study.arms import Base
from dataflex.study.file import read_study_file
from dataflex.study.plan import Plan
from dataflex.study.run_files import write_run_file


@pytest.mark.parametrize("name", ["plain", "1e3", "no", "012", "+1", ".5e1", "2023", "null", "a: b", "汉字", "-x"])
def test_texts_stay_texts_and_numbers_numbers(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {
        "train_type": "dynamic_mix",
        "dataset": f"{name},code",
        "run_name": name,
        "component_name": "schedule",
        "component_params": {"points": {20: {name: 0.7, "code": 0.3}}, "texts": [name]},
        "learning_rate": 1e-05,
        "max_steps": 12,
        "do_eval": True,
        "deepspeed": None,
    }
    quoted = json.dumps(name)  # JSON is YAML in which every text is in quotes
    params = f"{{points: {{20: {{{quoted}: 0.7, code: 0.3}}}}, texts: [{quoted}]}}"
    Path("run.yaml").write_text(json.dumps(base | {"component_params": 0}).replace('params": 0', f'params": {params}'))
    keys = {"base": "run.yaml", "arms": {"a": {}}, "metric": "x", "out": "out"}
    Path("study.yaml").write_text(yaml.safe_dump(keys))
    study = read_study_file(Path("study.yaml"))
    (run,) = Plan(study, Base.read(study.base), [1], 12).runs()
    write_run_file(run)
    found = read_run_file(run.file)
    assert {**found.llamafactory, **found.ours} == {**run.run.llamafactory, **run.run.ours}
    assert found.ours["component_params"] == base["component_params"] and found.llamafactory["learning_rate"] == 1e-05
    assert run.file.read_text().startswith("# a, seed 42, of a study. By hand: dataflex train out/files/a-42.yaml\n")


def test_a_word_that_may_be_a_name_is_written_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(
        "component_params: {targets: [no, 1e3, 012], of: {2023: on}}\ntrain_type: dynamic_select\n"
    )
    Path("study.yaml").write_text("{base: run.yaml, arms: {a: {component_params: {more: off}}}, metric: x}\n")
    study = read_study_file(Path("study.yaml"))
    (run,) = Plan(study, Base.read(study.base), [1], 12).runs()
    write_run_file(run)
    given, written = read_run_file(Path("run.yaml")), read_run_file(run.file)
    for found in (given, written):
        names = found.written.take_names(
            found.ours["component_params"]["targets"], list[str], "component_params", "targets"
        )
        assert names == ["no", "1e3", "012"]
    of = written.written.take_names(written.ours["component_params"]["of"], dict[str, str], "component_params", "of")
    assert of == {"2023": "on"}
    assert "more: off" in run.file.read_text()
