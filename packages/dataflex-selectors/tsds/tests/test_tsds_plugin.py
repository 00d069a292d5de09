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
from dataflex_selectors_tsds import plugin
from dataflex_selectors_tsds.params import TsdsParams

(SPEC,) = plugin.dataflex_components()


def plan(*, stage: str = "sft", arguments: dict[str, Any] | None = None, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-tsds",
        version="0.1.0",
        params=dataclasses.asdict(TsdsParams(**params)),
        steps=Steps(warmup=0, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, **(arguments or {})},
        source="run.yaml",
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_tsds.plugin as p, dataflex_selectors_tsds.params\n"
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
    params = TsdsParams()
    assert (params.alpha, params.C, params.sigma, params.draw) == (0.5, 5.0, 0.75, "systematic")
    assert (params.embedding_model, params.density_rows, params.passes) == ("initial", 100_000, 1)


def test_runs_that_cannot_be_aimed_are_refused() -> None:
    assert plugin.dataflex_check_run(plan()) == []
    for stage in ("dpo", "rm", "kto"):
        (problem,) = plugin.dataflex_check_run(plan(stage=stage))
        assert f"stage: {stage} (from run.yaml)" in problem.message
    (prompt,) = plugin.dataflex_check_run(plan(stage="pt", span="prompt"))
    assert "span is prompt" in prompt.message
    (merged,) = plugin.dataflex_check_run(plan(arguments={"eval_dataset": "a,b"}))
    assert "TSDS could not tell its subtasks apart" in merged.message
    (pieces,) = plugin.dataflex_check_run(plan(arguments={"deepspeed": {"zero_optimization": {"stage": 3}}}))
    assert "whole parameters" in pieces.message
    assert (
        plugin.dataflex_check_run(
            plan(arguments={"deepspeed": {"zero_optimization": {"stage": 3}}}, embedding_model="some/model")
        )
        == []
    )
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(plan(stage="dpo"), component=other)) == []


def test_names_of_dataflex_1x_are_ignored_with_a_sentence_and_a_file_of_probabilities_is_refused() -> None:
    assert {"max_K", "kde_K", "embedding_model_dtype"} <= set(SPEC.legacy)
    found = Subject(name="tsds", kind=Kind.SELECTOR).find()
    assert bind_values(found, {"max_K": 5000, "kde_K": 1000, "alpha": 0.6}).params == TsdsParams(alpha=0.6)
    with pytest.raises(ConfigError, match=r"probs_path.* set embedding_model to the model the file was made with"):
        bind_values(found, {"probs_path": "probs.npy"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": 1.5}, "alpha: 1.5 .* must be at least 0 and at most 1"),
        ({"C": 0}, "C: 0 .* must be above 0"),
        ({"sigma": -1}, "sigma: -1 .* must be at least 0"),
        ({"density_rows": 1}, "density_rows: 1 .* must be at least 2"),
        ({"draw": "best"}, "'systematic', 'independent' or 'distinct'"),
        ({"passes": 0}, "passes: 0 .* must be at least 1"),
        ({"targets": []}, "targets names no eval set"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="tsds", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(TsdsParams))
