from __future__ import annotations

import dataclasses
import importlib
import json
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
from dataflex_selectors_less import plugin
from dataflex_selectors_less.params import LessParams

SPEC = plugin.dataflex_components()[0]
OTHER_OPTIMIZERS = ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon")


def plan(
    *, stage: str = "sft", steps: Steps | None = None, arguments: dict[str, Any] | None = None, **params: Any
) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-less",
        version="0.1.0",
        params=dataclasses.asdict(LessParams(**params)),
        steps=steps or Steps(warmup=5, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **(arguments or {})},
        source="run.yaml",
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_less.plugin as p, dataflex_selectors_less.params\n"
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
def test_stages_without_a_next_token_loss_are_refused(stage: str) -> None:
    (problem,) = plugin.dataflex_check_run(plan(stage=stage))
    assert f"stage: {stage} (from run.yaml)" in problem.message
    assert "sft or pt" in problem.fix
    assert "random" in problem.fix


@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_stages_with_a_next_token_loss_are_not(stage: str) -> None:
    assert plugin.dataflex_check_run(plan(stage=stage)) == []


def test_a_part_of_the_pool_that_cannot_fill_a_stage_is_refused() -> None:
    # 10 steps of batch 2 x accumulation 2
    (problem,) = plugin.dataflex_check_run(plan(max_candidates=39))
    assert "max_candidates=39" in problem.message
    assert "at least 40 samples" in problem.message
    assert plugin.dataflex_check_run(plan(max_candidates=40)) == []
    assert plugin.dataflex_check_run(plan(max_candidates=14, passes=3)) == []
    (again,) = plugin.dataflex_check_run(plan(max_candidates=13, passes=3))
    assert "at least 14 samples" in again.message and "passes=3 times" in again.message
    assert "replacement" not in problem.fix
    short = Steps(warmup=5, update=10, train=8)  # the only stage has 3 steps
    assert plugin.dataflex_check_run(plan(max_candidates=12, steps=short)) == []
    assert len(plugin.dataflex_check_run(plan(max_candidates=11, steps=short))) == 1


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(plan(stage="dpo"), component=other)) == []


@pytest.mark.parametrize(
    ("steps", "arguments", "message"),
    [
        (Steps(warmup=0, update=10, times=3), {}, "empty at warmup_step: 0"),
        (None, {"optim": "adafactor"}, "optim: adafactor has none"),
        (None, {"optim": "adamw_8bit"}, "optim: adamw_8bit has none"),
        *((None, {key: True}, f"with {key} there are none") for key in OTHER_OPTIMIZERS),
    ],
)
def test_adams_moments_are_needed_unless_plain_gradients_were_asked_for(
    steps: Steps | None, arguments: dict[str, Any], message: str
) -> None:
    (problem,) = plugin.dataflex_check_run(plan(steps=steps, arguments=arguments))
    assert message in problem.message
    assert plugin.dataflex_check_run(plan(steps=steps, arguments=arguments, preconditioner="sgd")) == []


@pytest.mark.parametrize("names", ["a,b", ["a", "b"]])
def test_eval_sets_that_would_be_merged_are_refused(names: Any) -> None:
    (problem,) = plugin.dataflex_check_run(plan(arguments={"eval_dataset": names}))
    assert "names 2 data sets (from run.yaml)" in problem.message and "eval_on_each_dataset: true" in problem.fix
    assert plugin.dataflex_check_run(plan(arguments={"eval_dataset": names, "eval_on_each_dataset": True})) == []
    assert plugin.dataflex_check_run(plan(arguments={"eval_dataset": "a"})) == []


def test_a_target_that_is_no_eval_set_is_refused() -> None:
    arguments = {"eval_dataset": "a, b", "eval_on_each_dataset": True}
    assert plugin.dataflex_check_run(plan(arguments=arguments, targets=("b",))) == []
    (problem,) = plugin.dataflex_check_run(plan(arguments=arguments, targets=("b", "c")))
    assert "targets (from run.yaml) names c, which eval_dataset (from run.yaml) does not" in problem.message


def test_a_target_that_is_named_twice_is_refused() -> None:
    arguments = {"eval_dataset": ["a", "b"], "eval_on_each_dataset": True}
    (problem,) = plugin.dataflex_check_run(plan(arguments=arguments, targets=("b", "a", "b")))
    assert "targets (from run.yaml) names b more than once" in problem.message


def test_a_target_of_the_command_line_is_said_to_be_from_there() -> None:
    arguments = {"eval_dataset": "a, b", "eval_on_each_dataset": True}
    origins = {"component_params.targets": "the command line"}
    made = dataclasses.replace(plan(arguments=arguments, targets=("c", "c")), origins=origins)
    twice, unknown = plugin.dataflex_check_run(made)
    assert "targets (from the command line) names c more than once" in twice.message
    assert "targets (from the command line) names c, which eval_dataset (from run.yaml) does not" in unknown.message


@pytest.mark.parametrize("preconditioner", ["official", "sgd"])
def test_zero_3_is_refused_and_fsdp2_is_not(preconditioner: str) -> None:
    arguments = {"deepspeed": {"zero_optimization": {"stage": 3}}}
    (problem,) = plugin.dataflex_check_run(plan(arguments=arguments, preconditioner=preconditioner))
    spread = {"fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2}}
    assert not list(plugin.dataflex_check_run(plan(arguments=spread, preconditioner=preconditioner)))
    assert "deepspeed with ZeRO stage 3 (from run.yaml) spreads" in problem.message
    assert "Use FSDP2, ZeRO stage 2" in problem.fix and "DDP" in problem.fix


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_zero_stages_that_leave_parameters_whole_are_welcome(stage: int, tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
    assert plugin.dataflex_check_run(plan(arguments={"deepspeed": str(path)})) == []


def test_the_zero_stage_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    path.write_text('{"zero_optimization": {"stage": 3}}', encoding="utf-8")
    (problem,) = plugin.dataflex_check_run(plan(arguments={"deepspeed": str(path)}))
    assert "ZeRO stage 3" in problem.message


@pytest.mark.parametrize("config", [{}, {"zero_optimization": {}}, "missing.json"])
def test_a_deepspeed_file_without_a_stage_is_left_to_llamafactory(config: Any) -> None:
    assert plugin.dataflex_check_run(plan(arguments={"deepspeed": config})) == []


def test_names_of_dataflex_1_files_mean_the_same() -> None:
    aliases = {field.name: field.metadata["aliases"] for field in dataclasses.fields(LessParams)}
    assert aliases["preconditioner"] == ("gradient_type",) and "proj_dim" in aliases


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preconditioner": "rmsprop"}, "'official', 'adam', 'sgd' or 'linear'"),
        ({"temperature": 0}, "temperature: 0 .* must be at least 1e-06"),
        ({"temperature": 1e-320}, "temperature: 1e-320 .* must be at least 1e-06"),
        ({"direction_memory_gb": float("inf")}, "direction_memory_gb: inf .* must be above 0 and finite"),
        ({"max_candidates": 0}, "max_candidates: 0 .* must be at least 1"),
        ({"token_budget": 0}, "token_budget: 0 .* must be at least 1"),
        ({"proj_dim": 0}, "proj_dim: 0 .* must be at least 1"),
        ({"targets": []}, "targets names no eval set"),
        ({"shard_seconds": -1}, "shard_seconds: -1 .* must be at least 0"),
        ({"mode": "sample", "aggregate": "round_robin"}, "needs max or mean"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="less", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(LessParams))
