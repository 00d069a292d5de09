from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importlib_metadata import entry_points

from dataflex.errors import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import API, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_selectors_quality import params, plugin

SPECS = {spec.name: spec for spec in plugin.dataflex_components()}
PARAMS: dict[str, Any] = {
    "ifd": params.IfdParams(),
    "perplexity": params.PerplexityParams(),
    "deita": params.DeitaParams(by=("length",)),
    "column": params.ColumnParams(by="length"),
}


def facts(name: str, *, stage: str = "sft", arguments: Any = None, **more: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPECS[name],
        dist="dataflex-selectors-quality",
        version="0.1.0",
        params=dataclasses.asdict(dataclasses.replace(PARAMS[name], **more)),
        steps=Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, **(arguments or {})},
        source="run.yaml",
    )


def refused(*args: Any, **more: Any) -> list[str]:
    return [problem.message for problem in plugin.dataflex_check_run(facts(*args, **more))]


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_quality.plugin as p, dataflex_selectors_quality.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", SPECS)
def test_the_specs_name_what_exists_and_every_parameter_has_a_help_text(name: str) -> None:
    spec = SPECS[name]
    assert spec.api == API
    assert spec.params is not None
    for reference in (spec.target, spec.params):
        module, found = reference.split(":")
        assert hasattr(importlib.import_module(module), found)
    assert all(field.metadata["help"] for field in dataclasses.fields(PARAMS[name]))


@pytest.mark.parametrize("name", ["ifd", "perplexity", "deita"])
@pytest.mark.parametrize("stage", ["dpo", "rm", "kto"])
def test_stages_whose_rows_are_pairs_are_refused(name: str, stage: str) -> None:
    (message,) = refused(name, stage=stage)
    assert f"stage: {stage} (from run.yaml)" in message


def test_a_number_of_the_data_serves_any_stage() -> None:
    assert all(refused("column", stage=stage) == [] for stage in ("sft", "pt", "dpo", "rm", "kto"))


def test_rows_without_a_prompt_of_their_own_have_no_difficulty() -> None:
    assert "rows of stage: pt (from run.yaml) have none" in refused("ifd", stage="pt")[0]
    assert "train_on_prompt (from run.yaml)" in refused("ifd", arguments={"train_on_prompt": True})[0]
    for key in ("packing", "neat_packing"):
        assert f"packed rows hold several: {key}: true" in refused("ifd", arguments={key: True})[0]
    for name in ("perplexity", "deita"):
        assert refused(name, stage="pt", arguments={"packing": True}) == []


@pytest.mark.parametrize(
    ("name", "key"), [("ifd", "score_model"), ("perplexity", "score_model"), ("deita", "embedding_model")]
)
def test_models_in_pieces_are_refused_unless_another_one_scores(name: str, key: str) -> None:
    sharded = {"deepspeed": {"zero_optimization": {"stage": 3}}}
    (message,) = refused(name, arguments=sharded)
    assert "whole parameters" in message
    assert refused(name, arguments=sharded, **{key: "some/model"}) == []


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPECS["ifd"], target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(facts("ifd", stage="dpo"), component=other)) == []


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ifd", {"ratio": "logit"}, "'loss' or 'ppl'"),
        ("ifd", {"least_tokens": 0}, "least_tokens: 0 .* must be at least 1"),
        ("ifd", {"score_model": "run"}, "scores are made once"),
        ("perplexity", {"band": "middle"}, "'low', 'medium' or 'high'"),
        ("perplexity", {"quantiles": [0.7, 0.3]}, "quantiles must rise"),
        ("perplexity", {"quantiles": [0.3, 1.3]}, "must be at least 0 and at most 1"),
        ("deita", {}, "by"),
        ("deita", {"by": []}, "by names no numbers"),
        ("deita", {"by": ["length"], "same_above": 2}, "same_above: 2 .* must be at least -1 and at most 1"),
        ("deita", {"by": ["length"], "embedding_model": "run"}, "is decided once"),
        ("column", {}, "by"),
        ("column", {"by": "length", "direction": "down"}, "'ascending' or 'descending'"),
        ("column", {"by": "length", "passes": 0}, "passes: 0 .* must be at least 1"),
    ],
)
def test_parameters_that_say_nothing_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name=name, kind=Kind.SELECTOR).find(), given)


def test_the_released_settings_are_the_defaults() -> None:
    assert (PARAMS["ifd"].ratio, PARAMS["ifd"].least_tokens) == ("loss", 4)
    assert (PARAMS["perplexity"].band, PARAMS["perplexity"].quantiles) == ("medium", (0.33, 0.66))
    deita = PARAMS["deita"]
    assert (deita.same_above, deita.pooling, deita.center, deita.layers) == (0.9, "last", False, (-1,))
    bound = bind_values(Subject(name="deita", kind=Kind.SELECTOR).find(), {"by": ["length"], "threshold": 0.8})
    assert bound.params.same_above == 0.8
