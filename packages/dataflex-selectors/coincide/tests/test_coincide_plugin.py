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
from dataflex_selectors_coincide import plugin
from dataflex_selectors_coincide.params import CoincideParams

SPEC = plugin.dataflex_components()[0]


def facts(*, stage: str = "sft", arguments: Any = None, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-coincide",
        version="0.1.0",
        params=dataclasses.asdict(CoincideParams(**params)),
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
        "import sys, dataflex_selectors_coincide.plugin as p, dataflex_selectors_coincide.params\n"
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


def test_the_defaults_are_those_of_the_released_code() -> None:
    params = CoincideParams()
    assert (params.site, params.pooling, params.squash, params.center) == ("attention", "mean", "tanh_of_mean", False)
    assert (params.temperature, params.same_above, params.layers) == (0.1, 0.9, ())


@pytest.mark.parametrize("stage", ["dpo", "rm", "kto"])
def test_stages_whose_rows_are_pairs_are_refused(stage: str) -> None:
    (problem,) = plugin.dataflex_check_run(facts(stage=stage))
    assert f"stage: {stage} (from run.yaml)" in problem.message


def test_models_in_pieces_are_refused_unless_another_one_embeds() -> None:
    sharded = {"deepspeed": {"zero_optimization": {"stage": 3}}}
    (problem,) = plugin.dataflex_check_run(facts(arguments=sharded))
    assert "whole parameters" in problem.message
    assert plugin.dataflex_check_run(facts(arguments=sharded, embedding_model="some/model")) == []


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(facts(stage="dpo"), component=other)) == []


def test_names_of_older_files_are_understood_or_left_out() -> None:
    entry = Subject(name="coincide", kind=Kind.SELECTOR).find()
    given = {"embedding_model_name_or_path": "a/model", "embedding_layer": [4, 8], "clustering_max_iter": 10}
    bound = bind_values(entry, given).params
    assert (bound.embedding_model, bound.layers, bound.max_rounds) == ("a/model", (4, 8), 10)
    nulls = {"embedding_model_name_or_path": None, "embedding_layers": None}
    assert bind_values(entry, nulls).params == CoincideParams()
    for old in ("clustering_device", "assignment_chunk_size", "density_chunk_size", "single_member_density"):
        assert bind_values(entry, {old: 1}).params == CoincideParams()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"embedding_model": "run"}, "goes on at each boundary with the clusters of the first one"),
        ({"temperature": 0}, "temperature: 0 .* must be at least 0.001"),
        ({"same_above": 2}, "same_above: 2 .* at most 1"),
        ({"num_clusters": 0}, "num_clusters: 0 .* must be at least 1"),
        ({"site": "mlp"}, "'attention' or 'block'"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="coincide", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(CoincideParams))
