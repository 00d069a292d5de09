from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importlib_metadata import entry_points
from pydantic import TypeAdapter

from dataflex.errors import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import API, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_selectors_loss import plugin
from dataflex_selectors_loss.params import LossParams

SPEC = plugin.dataflex_components()[0]


def plan(
    *,
    stage: str = "sft",
    steps: Steps | None = None,
    batch: int = 2,
    arguments: dict[str, Any] | None = None,
    **params: Any,
) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-loss",
        version="0.1.0",
        params=dataclasses.asdict(LossParams(**params)),
        steps=steps or Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": batch, "gradient_accumulation_steps": 2, **(arguments or {})},
        source="run.yaml",
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_loss.plugin as p, dataflex_selectors_loss.params\n"
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


@pytest.mark.parametrize("stage", ["sft", "pt", "dpo", "rm", "kto"])
def test_every_stage_is_taken(stage: str) -> None:
    assert plugin.dataflex_check_run(plan(stage=stage)) == []


@pytest.mark.parametrize(
    ("stage", "key", "why"),
    [("dpo", "pref_bco_weight", "running mean over batches"), ("kto", "pref_ftx", "how many of a batch's rows are")],
)
def test_a_term_that_a_row_does_not_have_by_itself_is_refused(stage: str, key: str, why: str) -> None:
    (problem,) = plugin.dataflex_check_run(plan(stage=stage, arguments={key: 0.5}))
    assert f"the loss selector scores each row by itself, and the term of {key}: 0.5 (from run.yaml)" in problem.message
    assert why in problem.message and f"Leave {key} out" in problem.fix
    assert plugin.dataflex_check_run(plan(stage=stage, arguments={key: 0.0})) == []
    assert plugin.dataflex_check_run(plan(stage="sft", arguments={key: 0.5})) == []


def test_a_part_of_the_pool_that_cannot_fill_a_stage_is_refused() -> None:
    # 10 steps of batch 2 x accumulation 2
    (problem,) = plugin.dataflex_check_run(plan(max_candidates=39))
    assert "max_candidates=39" in problem.message
    assert "at least 40 samples" in problem.message
    assert plugin.dataflex_check_run(plan(max_candidates=40)) == []
    assert plugin.dataflex_check_run(plan(max_candidates=14, passes=3)) == []
    (again,) = plugin.dataflex_check_run(plan(max_candidates=13, passes=3))
    assert "at least 14 samples" in again.message and "passes=3 times" in again.message
    assert plugin.dataflex_check_run(plan(max_candidates=39, replacement=True)) == []
    short = Steps(warmup=5, update=10, train=8)  # the only stage has 3 steps
    assert plugin.dataflex_check_run(plan(max_candidates=12, steps=short)) == []
    assert len(plugin.dataflex_check_run(plan(max_candidates=11, steps=short))) == 1


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(plan(max_candidates=1), component=other)) == []


def test_parameters_of_a_dataflex_1_file_mean_the_same() -> None:
    given = {"focus": "medium", "focus_weight": 3, "quantiles": [0.25, 0.75], "temperature": 2, "replacement": True}
    params = TypeAdapter(LossParams).validate_python(given)
    assert params == LossParams(
        focus="medium", focus_weight=3.0, quantiles=(0.25, 0.75), temperature=2.0, replacement=True
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantiles": [0.66, 0.33]}, r"quantiles must rise, and \[0.66, 0.33\] do not"),
        ({"quantiles": [0.2, 1.2]}, r"quantiles\[1\]: 1.2 .* must be at least 0 and at most 1"),
        ({"quantiles": [0.2]}, "quantiles"),
        ({"focus": "hard"}, "'low', 'medium' or 'high'"),
        ({"focus_weight": 0}, "focus_weight: 0 .* must be above 0"),
        ({"temperature": -1}, "temperature: -1 .* must be at least 1e-06"),
        ({"temperature": 1e-320}, "temperature: 1e-320 .* must be at least 1e-06"),
        ({"temperature": float("nan")}, "temperature: nan .* must be at least 1e-06"),
        ({"max_candidates": 0}, "max_candidates: 0 .* must be at least 1"),
        ({"token_budget": 0}, "token_budget: 0 .* must be at least 1"),
        ({"mode": "top", "replacement": True}, "cannot draw with replacement"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="loss", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(LossParams))
