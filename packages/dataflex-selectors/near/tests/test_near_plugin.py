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
from dataflex_selectors_near import plugin
from dataflex_selectors_near.params import NearParams, RdsParams

NEAR, RDS = plugin.dataflex_components()


def facts(*, stage: str = "sft", arguments: Any = None, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=NEAR,
        dist="dataflex-selectors-near",
        version="0.1.0",
        params=dataclasses.asdict(NearParams(**params)),
        steps=Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **(arguments or {})},
        source="run.yaml",
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_near.plugin as p, dataflex_selectors_near.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("spec", [NEAR, RDS])
def test_the_specs_name_what_exists(spec: Any) -> None:
    assert spec.api == API
    for reference in (spec.target, spec.params):
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_one_class_has_two_sets_of_defaults() -> None:
    assert NEAR.target == RDS.target
    near, rds = dataclasses.asdict(NearParams()), dataclasses.asdict(RdsParams())
    assert {name: (near[name], rds[name]) for name in near if near[name] != rds[name]} == {
        "embedding_model": ("run", "initial"),
        "tokens": (None, 32),
    }
    assert (near["embedding_layers"], near["pooling"], near["span"], near["center"]) == (
        (-1,),
        "weighted_mean",
        "all",
        True,
    )
    assert (near["repeat_rows"], near["passes"], near["share"]) == (False, 1, 1.0)


@pytest.mark.parametrize("stage", ["dpo", "rm", "kto"])
def test_stages_whose_rows_are_pairs_are_refused(stage: str) -> None:
    (problem,) = plugin.dataflex_check_run(facts(stage=stage))
    assert f"stage: {stage} (from run.yaml)" in problem.message
    assert "random" in problem.fix


def test_rows_without_a_prompt_have_no_span_of_that_name() -> None:
    (problem,) = plugin.dataflex_check_run(facts(stage="pt", span="prompt"))
    assert problem.fix == "Set span: all."
    assert plugin.dataflex_check_run(facts(stage="pt", span="answer")) == []


def test_a_part_of_the_pool_that_cannot_fill_a_stage_is_refused() -> None:
    (problem,) = plugin.dataflex_check_run(facts(max_candidates=39))
    assert "max_candidates=39" in problem.message
    assert plugin.dataflex_check_run(facts(max_candidates=20, passes=2)) == []


def test_targets_that_are_none_are_refused() -> None:
    (problem,) = plugin.dataflex_check_run(facts(targets=("b",), arguments={"eval_dataset": "a"}))
    assert "b" in problem.message


def test_models_in_pieces_are_refused_unless_another_one_embeds() -> None:
    sharded = {"deepspeed": {"zero_optimization": {"stage": 3}}}
    (problem,) = plugin.dataflex_check_run(facts(arguments=sharded))
    assert "whole parameters" in problem.message
    assert plugin.dataflex_check_run(facts(arguments=sharded, embedding_model="some/model")) == []


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(NEAR, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(facts(stage="dpo"), component=other)) == []


@pytest.mark.parametrize("name", ["near", "rds"])
def test_names_of_older_files_are_understood_or_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    entry = Subject(name=name, kind=Kind.SELECTOR).find()
    bound = bind_values(entry, {"embedding_model_name_or_path": "a/model", "embedding_layer": -2, "max_K": 1000})
    assert (bound.params.embedding_model, bound.params.layers) == ("a/model", (-2,))
    for old in ("embedding_model_dtype", "clustering_batch_size", "clustering_num_workers", "embed_method"):
        assert bind_values(entry, {old: 1}).params == type(bound.params)()
    with pytest.raises(ConfigError, match=r"indices_path.*rows are embedded and compared in the run itself"):
        bind_values(entry, {"indices_path": "near.npy"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"aggregate": "sum"}, "'round_robin', 'max' or 'mean'"),
        ({"share": 1.2}, "share: 1.2 .* must be at least 0 and at most 1"),
        ({"passes": 0}, "passes: 0 .* must be at least 1"),
        ({"tokens": 0}, "tokens: 0 .* must be at least 1"),
        ({"max_candidates": 0}, "max_candidates: 0 .* must be at least 1"),
        ({"embedding_layers": []}, "names no layer"),
        ({"targets": []}, "names no eval set"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="near", kind=Kind.SELECTOR).find(), given)


@pytest.mark.parametrize("params", [NearParams, RdsParams])
def test_every_parameter_has_a_help_text(params: Any) -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(params))
