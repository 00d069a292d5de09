from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importlib_metadata import entry_points

from dataflex.config.checks import problems
from dataflex.errors import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import API, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_selectors_margin import plugin
from dataflex_selectors_margin.params import MarginParams

SPEC = plugin.dataflex_components()[0]


def plan(stage: str = "dpo", *, arguments: dict[str, Any] | None = None, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-margin",
        version="0.1.0",
        params=dataclasses.asdict(MarginParams(**params)),
        steps=Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"do_train": True, "per_device_train_batch_size": 2, **(arguments or {})},
        source="run.yaml",
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_margin.plugin as p, dataflex_selectors_margin.params\n"
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


@pytest.mark.parametrize("stage", ["dpo", "rm"])
def test_stages_of_pairs_are_taken(stage: str) -> None:
    assert plugin.dataflex_check_run(plan(stage)) == []
    assert list(problems(plan(stage))) == []


@pytest.mark.parametrize("stage", ["sft", "pt", ""])
def test_stages_of_single_answers_are_refused(stage: str) -> None:
    (problem,) = problems(plan(stage))
    assert f"selector 'margin' compares answers, and the rows of stage: {stage or 'none'}" in problem.message
    assert "dpo, rm, kto" in problem.fix


def test_kto_is_refused_by_name_and_reason() -> None:
    (problem,) = plugin.dataflex_check_run(plan("kto"))
    assert "a row of stage: kto (from run.yaml) has one answer with a mark" in problem.message
    assert "component_name: loss" in problem.fix


def test_a_term_that_a_pair_does_not_have_by_itself_is_refused() -> None:
    (problem,) = plugin.dataflex_check_run(plan(arguments={"pref_bco_weight": 0.5}))
    assert "pref_bco_weight: 0.5 (from run.yaml)" in problem.message and "running mean" in problem.message
    assert plugin.dataflex_check_run(plan(arguments={"pref_bco_weight": 0.0, "pref_ftx": 1.0})) == []


def test_a_part_of_the_pool_that_cannot_fill_a_stage_is_refused() -> None:
    (problem,) = plugin.dataflex_check_run(plan(max_candidates=19))
    assert "at least 20 samples" in problem.message
    assert plugin.dataflex_check_run(plan(max_candidates=20)) == []


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(plan("kto"), component=other)) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantiles": [0.75, 0.25]}, r"quantiles must rise, and \[0.75, 0.25\] do not"),
        ({"quantiles": [0.2, 1.2]}, r"quantiles\[1\]: 1.2 .* must be at least 0 and at most 1"),
        ({"mode": "middle"}, "'band', 'top' or 'bottom'"),
        ({"max_candidates": 0}, "max_candidates: 0 .* must be at least 1"),
        ({"passes": 0}, "passes: 0 .* must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="margin", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(MarginParams))
