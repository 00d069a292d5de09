"""What spreads a run over ranks is found by keys and by accelerate's variables, and what cannot be resumed is said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dataflex import resumable, run_checks
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.sharding import find_fsdp, problems, variables, warnings, zero3
from dataflex.spec import ComponentSpec, Kind

USE = {"ACCELERATE_USE_FSDP": "true"}


@pytest.mark.parametrize(
    ("arguments", "environ", "source", "version", "state_type"),
    [
        ({"fsdp": "full_shard auto_wrap"}, {}, "fsdp (from r.yaml)", 1, "FULL_STATE_DICT"),
        ({"fsdp": True, "fsdp_config": {"fsdp_version": 2}}, {}, "fsdp (from r.yaml)", 2, "SHARDED_STATE_DICT"),
        ({"fsdp": ["full_shard"], "fsdp_config": {"version": "2"}}, {}, "fsdp (from r.yaml)", 2, "SHARDED_STATE_DICT"),
        ({"fsdp": "full_shard"}, {"FSDP_STATE_DICT_TYPE": "3"}, "fsdp (from r.yaml)", 1, "SHARDED_STATE_DICT"),
        ({}, USE, "ACCELERATE_USE_FSDP (of the environment)", 1, "FULL_STATE_DICT"),
        (
            {"fsdp": ""},
            USE | {"FSDP_VERSION": "2"},
            "ACCELERATE_USE_FSDP (of the environment)",
            2,
            "SHARDED_STATE_DICT",
        ),
        (
            {"fsdp": []},
            {"ACCELERATE_USE_FSDP": "True", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "full_state_dict"},
            "ACCELERATE_USE_FSDP (of the environment)",
            2,
            "FULL_STATE_DICT",
        ),
    ],
)
def test_fsdp_is_found_as_transformers_and_accelerate_find_it(arguments, environ, source, version, state_type):
    found = find_fsdp(arguments, environ, "r.yaml")
    assert found is not None
    assert (found.source, found.version, found.state_type) == (source, version, state_type)


@pytest.mark.parametrize("environ", [{}, {"ACCELERATE_USE_FSDP": "false"}, {"FSDP_VERSION": "2"}])
def test_a_run_without_the_key_and_the_switch_is_not_under_fsdp(environ):
    assert find_fsdp({"fsdp": None, "fsdp_config": {"fsdp_version": 2}}, environ, "r.yaml") is None
    assert list(problems({"fsdp": None, "fsdp_config": {"fsdp_version": 2}}, environ, "r.yaml")) == []


def test_accelerate_takes_the_state_type_that_is_expected_here(monkeypatch):
    from accelerate.utils import FullyShardedDataParallelPlugin

    monkeypatch.delenv("FSDP_STATE_DICT_TYPE", raising=False)
    for version in (1, 2):
        monkeypatch.setenv("FSDP_VERSION", str(version))
        found = find_fsdp({}, USE | {"FSDP_VERSION": str(version)}, "r.yaml")
        assert found.state_type == FullyShardedDataParallelPlugin().state_dict_type.name


def test_settings_in_files_are_read(tmp_path):
    fsdp, zero = tmp_path / "fsdp.json", tmp_path / "zero.json"
    fsdp.write_text(json.dumps({"fsdp_version": 2}))
    zero.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    assert find_fsdp({"fsdp": "full_shard", "fsdp_config": str(fsdp)}, {}, "r.yaml").version == 2
    assert list(zero3({"deepspeed": str(zero)}, {}, "r.yaml")) == ["deepspeed with ZeRO stage 3 (from r.yaml)"]
    by_variable = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(zero)}
    assert len(list(zero3({}, by_variable, "r.yaml"))) == 1
    by_stage = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    assert list(zero3({}, by_stage, "r.yaml")) == ["ACCELERATE_USE_DEEPSPEED with ZeRO stage 3 (of the environment)"]
    assert list(zero3({}, by_stage | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "r.yaml")) == []


PLAN = RunFacts(
    train_type=TrainType.SELECT,
    stage="sft",
    component=ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:M", api=1),
    dist="d",
    version="1",
    params={},
    steps=Steps(warmup=4, update=3, times=2),
    output_dir="out",
    arguments={},
    source="r.yaml",
)


def test_a_component_that_needs_whole_parameters_is_refused_under_zero_3_by_the_variables_too(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    assert list(run_checks.needs_whole_parameters(PLAN)) == []
    assert list(run_checks.needs_whole_parameters(replace(PLAN, arguments={"fsdp": "full_shard"}))) == []
    zero = {"deepspeed": {"zero_optimization": {"stage": 3}}}
    (by_key,) = run_checks.needs_whole_parameters(replace(PLAN, arguments=zero))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    (by_variable,) = run_checks.needs_whole_parameters(PLAN)
    assert "which deepspeed with ZeRO stage 3 (from r.yaml) spreads" in by_key.message
    assert "which ACCELERATE_USE_DEEPSPEED with ZeRO stage 3 (of the environment) spreads" in by_variable.message


BY_KEY = {"fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2}}
BY_VARIABLE = USE | {"FSDP_VERSION": "2"}


@pytest.mark.parametrize(("arguments", "environ"), [({}, {}), (BY_KEY, {}), ({}, BY_VARIABLE)])
def test_fsdp2_by_either_door_is_welcome(arguments, environ):
    assert list(problems(arguments, environ, "r.yaml")) == []


@pytest.mark.parametrize(
    ("arguments", "environ", "message", "fix"),
    [
        ({"fsdp": "full_shard"}, {}, "fsdp (from r.yaml) is FSDP of version 1", "fsdp_config: {fsdp_version: 2}"),
        ({}, USE, "ACCELERATE_USE_FSDP (of the environment) is FSDP of version 1", "FSDP_VERSION=2"),
        (BY_KEY | {"fsdp": "full_shard auto_wrap offload"}, {}, "offload in fsdp (from r.yaml)", "Leave it out"),
        (
            BY_KEY | {"fsdp_config": {"fsdp_version": 2, "fsdp_offload_params": True}},
            {},
            "fsdp_config.offload_params (from r.yaml)",
            "Leave it out",
        ),
        ({}, BY_VARIABLE | {"FSDP_OFFLOAD_PARAMS": "true"}, "FSDP_OFFLOAD_PARAMS (of the environment)", "Leave it out"),
        (BY_KEY | {"quantization_bit": 4}, {}, "quantization_bit (from r.yaml) under fsdp (from r.yaml)", "or use DDP"),
        ({"quantization_bit": 4}, BY_VARIABLE, "under ACCELERATE_USE_FSDP (of the environment)", "or use DDP"),
        (BY_KEY | {"fsdp": "hybrid_shard auto_wrap"}, {}, "hybrid_shard in fsdp (from r.yaml)", "full_shard"),
        (
            {},
            BY_VARIABLE | {"FSDP_SHARDING_STRATEGY": "HYBRID_SHARD"},
            "FSDP_SHARDING_STRATEGY (of the environment) asks for hybrid sharding",
            "full_shard",
        ),
        ({"parallelism_config": {"tp_size": 2}}, {}, "parallelism_config (from r.yaml) lets several ranks", "FSDP2"),
        (
            {},
            {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"},
            "ACCELERATE_USE_PARALLELISM_CONFIG (of the environment) lets several ranks share a row",
            "FSDP2",
        ),
    ],
)
def test_other_ways_to_spread_a_run_are_refused_by_the_key_or_variable_that_asks(arguments, environ, message, fix):
    (problem,) = problems(arguments, environ, "r.yaml")
    assert message in problem.message and fix in problem.fix


def test_a_model_that_is_one_unit_is_warned_of():
    (said,) = warnings(BY_KEY | {"fsdp": "full_shard"}, {}, "r.yaml")
    assert "fsdp (from r.yaml) has no auto_wrap" in said
    assert list(warnings(BY_KEY, {}, "r.yaml")) == list(warnings({}, BY_VARIABLE, "r.yaml")) == []


def test_the_key_sets_the_variables_that_others_look_at():
    assert variables({}, {}) == {}
    assert variables(BY_KEY, {}) == {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    config = {"fsdp_version": 2, "cpu_ram_efficient_loading": True}
    found = variables(BY_KEY | {"fsdp_config": config}, {"FSDP_VERSION": "2"})
    assert found == {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, ""),
        ({"save_only_model": False, "finetuning_type": "lora"}, ""),
        ({"save_only_model": True}, "save_only_model: true (from r.yaml) keeps no optimizer state"),
        ({"stage": "rm"}, "value head"),
        (BY_KEY, ""),
    ],
)
def test_which_runs_cannot_go_on_from_their_own_checkpoints(arguments, why):
    said = resumable.why_no_resume(arguments, "r.yaml")
    assert why in said and bool(why) == bool(said)


@pytest.mark.parametrize("full_state", [True, False])
@pytest.mark.parametrize("finetuning", ["full", "lora"])
def test_a_static_run_under_fsdp_is_warned_of_once_with_what_it_will_lack(full_state, finetuning):
    environ = USE | {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT" if full_state else "SHARDED_STATE_DICT"}
    (said,) = resumable.fsdp_warning({"finetuning_type": finetuning}, environ, "r.yaml")
    assert "ACCELERATE_USE_FSDP" in said
    assert ("no final model is written" in said) != full_state
    assert ("can be resumed" in said) == (full_state and finetuning == "full")
