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
from dataflex.spec import API, ComponentSpec, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_selectors_lexical import plugin
from dataflex_selectors_lexical.params import DsirParams, LexicalParams

SPECS = plugin.dataflex_components()


def plan(
    spec: ComponentSpec = SPECS[0], *, stage: str = "sft", arguments: dict[str, Any] | None = None, **params: Any
) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=spec,
        dist="dataflex-selectors-lexical",
        version="0.1.0",
        params=dataclasses.asdict(LexicalParams(**params)),
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
        "import sys, dataflex_selectors_lexical.plugin as p, dataflex_selectors_lexical.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.name))
def test_the_spec_names_what_exists(spec: ComponentSpec) -> None:
    assert spec.api == API
    for reference in (spec.target, spec.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_the_two_names_differ_in_what_dsirs_released_code_does() -> None:
    mine, theirs = (dataclasses.asdict(params) for params in (LexicalParams(), DsirParams()))
    assert {name for name in mine if mine[name] != theirs[name]} == {"smoothing", "normalise", "temperature"}
    assert (theirs["smoothing"], theirs["normalise"], theirs["temperature"], theirs["buckets"]) == (1e-8, 0, None, 1e4)
    assert (mine["smoothing"], mine["temperature"], mine["ngrams"], mine["share"]) == (1.0, 0.33, 2, 1.0)
    assert (LexicalParams.smooths, DsirParams.smooths) == ("counts", "shares")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.name))
def test_stages_of_pairs_are_refused(spec: ComponentSpec) -> None:
    for stage in ("dpo", "rm", "kto"):
        (problem,) = plugin.dataflex_check_run(plan(spec, stage=stage))
        assert f"stage: {stage} (from run.yaml)" in problem.message
        assert spec.name in problem.message
    assert plugin.dataflex_check_run(plan(spec)) == []


def test_prompts_are_refused_where_there_are_none() -> None:
    (problem,) = plugin.dataflex_check_run(plan(stage="pt", part="prompt"))
    assert "stage: pt (from run.yaml) have none" in problem.message
    assert plugin.dataflex_check_run(plan(stage="pt", part="answer")) == []
    assert plugin.dataflex_check_run(plan(part="prompt")) == []


def test_eval_sets_that_are_merged_and_targets_that_are_none_are_refused() -> None:
    (merged,) = plugin.dataflex_check_run(plan(arguments={"eval_dataset": "a,b"}))
    assert "lexical could not tell its subtasks apart" in merged.message
    apart = {"eval_dataset": "a,b", "eval_on_each_dataset": True}
    assert plugin.dataflex_check_run(plan(arguments=apart, targets=("b",))) == []
    (unknown,) = plugin.dataflex_check_run(plan(arguments=apart, targets=("c",)))
    assert "targets (from run.yaml) names c" in unknown.message


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPECS[0], target="mine.selector:Mine")
    assert plugin.dataflex_check_run(plan(other, stage="dpo")) == []


@pytest.mark.parametrize("name", ["lexical", "dsir"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ngrams": 0}, "ngrams: 0 .* must be at least 1"),
        ({"buckets": 1}, "buckets: 1 .* must be at least 2"),
        ({"smoothing": 0}, "smoothing: 0 .* must be above 0"),
        ({"temperature": 0}, "temperature: 0 .* must be at least 1e-06"),
        ({"share": 1.5}, "share: 1.5 .* must be at least 0 and at most 1"),
        ({"passes": 0}, "passes: 0 .* must be at least 1"),
        ({"part": "system"}, "'all', 'prompt' or 'answer'"),
        ({"targets": []}, "targets names no eval set"),
        ({"aggregate": "round_robin"}, "mode: sample needs max or mean"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name=name, kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    for params in (LexicalParams, DsirParams):
        assert all(field.metadata["help"] for field in dataclasses.fields(params))
