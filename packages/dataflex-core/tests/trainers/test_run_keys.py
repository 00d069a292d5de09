"""Keys as they are gathered: with defaults, told which were given, models by content, no secret."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest
from doubles import IdleTrainer
from prepared_runs import prepared_run, run_facts

from dataflex.checkpoint_keys.compare import RunKeys, compare
from dataflex.record.run import hide_secrets
from dataflex.spec import API, ComponentSpec, Kind, Need
from dataflex.trainers.resume.arguments import Arguments
from dataflex.trainers.resume.run_keys import gather, to_keep
from dataflex.trainers.session import Session


@dataclass
class ModelArguments:
    model_name_or_path: str | None = None
    adapter_name_or_path: Any = None
    model_revision: str = "main"
    cache_dir: str | None = None
    adapter_folder: str | None = None
    hf_hub_token: str | None = None
    compute_dtype: Any = field(default=None, init=False)


@dataclass
class TrainingArguments:
    learning_rate: float = 5e-5
    deepspeed: Any = None
    odd: Any = None
    max_steps: int = -1
    world_size = 1


def run(arguments: Arguments, *, needs: frozenset[Need] = frozenset(), evals: Any = None, **params: Any) -> RunKeys:
    rows = ComponentSpec(kind=Kind.SELECTOR, name="rows", target="a:B", api=API, needs=needs)
    session = Session(prepared_run(run_facts(rows, params=params)), arguments=arguments)
    return gather(IdleTrainer(TrainingArguments(), eval_dataset=evals), session)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_defaults_are_kept_and_what_was_given_is_known():
    read = Arguments.read(
        [ModelArguments(hf_hub_token="hf_hush"), TrainingArguments()], ["learning_rate", "train_type"]
    )
    assert read.values["learning_rate"] == 5e-5 and read.values["model_revision"] == "main"
    assert read.given == {"learning_rate"} and read.values["hf_hub_token"] == "(hidden)"
    assert "compute_dtype" not in read.values, "what a parser makes of others is not a key"


def test_without_a_run_file_what_differs_from_its_default_was_given():
    assert Arguments.read([TrainingArguments(learning_rate=1e-3)]).given == {"learning_rate"}


def test_what_json_does_not_know_is_kept_as_text():
    assert Arguments.read([TrainingArguments(odd={("a", 1): 2})]).values["odd"] == str({("a", 1): 2})


def test_a_configuration_of_deepspeed_is_known_by_what_a_checkpoint_depends_on(tmp_path):
    stage, more = {"zero_optimization": {"stage": 2}}, {"bf16": {"enabled": True}}
    (tmp_path / "a.json").write_text(json.dumps(stage | more))
    found = [
        Arguments.read([TrainingArguments(deepspeed=given)]).values["deepspeed"]
        for given in (
            str(tmp_path / "a.json"),
            {"zero_optimization": {"stage": 2, "overlap_comm": True}, "gradient_clipping": 1.0, **more},
            {"zero_optimization": {"stage": 3}, **more},
        )
    ]
    assert found[0] == found[1] != found[2]
    assert Arguments.read([TrainingArguments()]).values["deepspeed"] is None


def test_a_name_on_a_hub_is_looked_up_in_the_cache(tmp_path, model):
    cache = tmp_path / "cache" / "models--org--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0123")
    shutil.copytree(model, cache / "snapshots" / "0123")
    arguments = [
        ModelArguments(model_name_or_path=name, cache_dir=str(tmp_path / "cache"))
        for name in ("org/model", str(model), "org/unknown", "no name of a hub/at all/")
    ]
    found = [run(Arguments.read([each])).models["model_name_or_path"] for each in arguments]
    assert found[0].identity == found[1].identity != ""
    assert found[0].path == "org/model" and found[2].identity == found[3].identity == ""


def test_several_adapters_are_known_in_their_order(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": name}))
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    found = [
        run(Arguments.read([ModelArguments(adapter_name_or_path=paths)])).models["adapter_name_or_path"]
        for paths in (both, both[::-1], None)
    ]
    assert len({each.identity for each in found}) == 3 and found[2].path == ""


def test_a_parameter_that_names_a_model_is_known_by_content(model):
    keys = run(Arguments.read([]), reference=str(model), other="model")
    assert list(keys.models) == ["component_params.reference"]
    assert keys.dataflex["component_params"] == {"reference": str(model), "other": "model"}


def test_a_parameter_that_names_a_file_is_known_by_content(tmp_path):
    path = tmp_path / "scores.npy"
    path.write_bytes(b"1")
    before = run(Arguments.read([]), by=f"file:{path}", other="file:none")
    assert list(before.models) == ["component_params.by"]
    path.rename(tmp_path / "moved.npy")
    moved = run(Arguments.read([]), by=f"file:{tmp_path / 'moved.npy'}", other="file:none")
    assert compare(before, moved).noted == []
    (tmp_path / "moved.npy").write_bytes(b"2")
    edited = run(Arguments.read([]), by=f"file:{tmp_path / 'moved.npy'}", other="file:none")
    (change,) = compare(before, edited).noted
    assert change.name == "component_params.by" and change.remark == ", another file by its content"


def test_paths_in_a_components_state_are_kept_if_they_are_there(model):
    keys = run(Arguments.read([]))
    state = {"index": {"file": str(model / "config.json"), "name": "config.json"}, "old": [1, "/no/such/file"]}
    assert to_keep(keys, state)["paths"] == {"index.file": str(model / "config.json")}


def test_secrets_are_hidden_however_deep_they_lie():
    given = {
        "api_key": "x",
        "judge": {"endpoints": [{"api_key": "x", "url": "u"}], "password": ""},
        "lark_webhook": "x",
    }
    assert hide_secrets(given) == {
        "api_key": "(hidden)",
        "judge": {"endpoints": [{"api_key": "(hidden)", "url": "u"}], "password": ""},
        "lark_webhook": "(hidden)",
    }


def test_eval_sets_are_known_by_their_rows_where_the_component_decides_by_them():
    evals = {"val": [{"x": 1}], "code": [{"x": 2}]}
    assert run(Arguments.read([]), evals=evals).aims == {}
    aims = run(Arguments.read([]), evals=evals, needs=frozenset({Need.EVAL_SET})).aims
    assert list(aims) == ["val", "code"] and aims["val"] != aims["code"]
    assert run(Arguments.read([]), evals=[{"x": 1}], needs=frozenset({Need.EVAL_SET})).aims == {"eval": aims["val"]}
