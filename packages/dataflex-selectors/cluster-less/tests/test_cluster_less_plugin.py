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
from dataflex_selectors_cluster_less import plugin
from dataflex_selectors_cluster_less.params import ClusterLessParams

SPEC = plugin.dataflex_components()[0]


def facts(*, stage: str = "sft", arguments: Any = None, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-cluster-less",
        version="0.1.0",
        params=dataclasses.asdict(ClusterLessParams(**params)),
        steps=Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, **(arguments or {})},
        source="run.yaml",
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_cluster_less.plugin as p, dataflex_selectors_cluster_less.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_the_spec_names_what_exists() -> None:
    assert SPEC.api == API
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("stage", ["dpo", "rm", "kto"])
def test_stages_whose_rows_are_pairs_are_refused(stage: str) -> None:
    (problem,) = plugin.dataflex_check_run(facts(stage=stage))
    assert f"stage: {stage} (from run.yaml)" in problem.message


def test_models_in_pieces_are_refused() -> None:
    (problem,) = plugin.dataflex_check_run(facts(arguments={"deepspeed": {"zero_optimization": {"stage": 3}}}))
    assert "whole parameters" in problem.message


def test_moments_are_needed_unless_gradients_are_compared() -> None:
    (problem,) = plugin.dataflex_check_run(facts(arguments={"optim": "sgd"}))
    assert problem.fix == "Set optim: adamw_torch."
    assert plugin.dataflex_check_run(facts(arguments={"optim": "sgd"}, preconditioner="sgd")) == []


def test_targets_and_a_span_that_rows_do_not_have_are_refused() -> None:
    (problem,) = plugin.dataflex_check_run(facts(targets=("b",), arguments={"eval_dataset": "a"}))
    assert "b" in problem.message
    (problem,) = plugin.dataflex_check_run(facts(stage="pt", span="prompt"))
    assert problem.fix == "Set span: all."


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(facts(stage="dpo"), component=other)) == []


def test_names_of_older_files_are_understood_or_left_out() -> None:
    entry = Subject(name="cluster_less", kind=Kind.SELECTOR).find()
    given = {"gradient_type": "adam", "cluster_size": 16, "samples_per_cluster": 2, "clustering_max_iter": 5}
    bound = bind_values(entry, {**given, "clustering_method": "kmeans", "embedding_layer": -1}).params
    assert bound == ClusterLessParams(
        preconditioner="adam", cluster_rows=16, representatives=2, max_rounds=5, embedding_layers=-1
    )
    for old in ("save_interval", "clustering_batch_size", "embedding_model_dtype"):
        assert bind_values(entry, {old: 1}).params == ClusterLessParams()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clustering_method": "lsh"}, "clustering_method.*'kmeans'"),
        ({"representative_strategy": "far"}, "'random', 'nearest' or 'mixed'"),
        ({"representatives": 0}, "representatives: 0 .* must be at least 1"),
        ({"num_clusters": 0}, "num_clusters: 0 .* must be at least 1"),
        ({"targets": []}, "names no eval set"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="cluster_less", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(ClusterLessParams))
