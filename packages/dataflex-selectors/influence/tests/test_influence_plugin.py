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
from dataflex_selectors_influence import plugin
from dataflex_selectors_influence.params import InfluenceParams

SPEC = plugin.dataflex_components()[0]


def plan(
    *,
    stage: str = "sft",
    warmup: int = 20,
    arguments: dict[str, Any] | None = None,
    scores: bool = False,
    **params: Any,
) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-influence",
        version="0.1.0",
        params=dataclasses.asdict(InfluenceParams(**params)),
        steps=Steps(warmup=warmup, update=10, times=3),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, **(arguments or {})},
        source="run.yaml",
        scores_only=scores,
    )


def messages(run: RunFacts) -> list[str]:
    return [problem.message for problem in plugin.dataflex_check_run(run)]


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_influence.plugin as p, dataflex_selectors_influence.params\n"
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


def test_the_defaults_are_those_of_the_readme() -> None:
    defaults = InfluenceParams()
    assert (defaults.features, defaults.buckets, defaults.ridge) == ("counts", 1024, 0.3)
    assert (defaults.max_labels, defaults.max_validation, defaults.refresh) == (4096, 32, None)
    assert (defaults.preconditioner, defaults.aggregate, defaults.mode) == ("sgd", "max", "top_k")
    assert (defaults.passes, defaults.share, defaults.exact_gradients) == (1, 1.0, False)


def test_a_run_that_fits_is_let_through() -> None:
    assert messages(plan()) == []
    assert messages(plan(preconditioner="linear", refresh=10)) == []
    assert messages(plan(warmup=0, scores=True)) == []


def test_without_a_warm_up_there_is_nothing_to_learn_from() -> None:
    (message,) = messages(plan(warmup=0))
    assert "warmup_step: 0 there are none" in message


def test_a_first_direction_that_comes_too_late_is_refused() -> None:
    (message,) = messages(plan(preconditioner="linear", refresh=20))
    assert "refresh=20" in message and "warmup_step: 20 (from run.yaml)" in message


def test_linear_needs_adams_moments_and_sgd_none() -> None:
    other = {"optim": "adafactor"}
    assert messages(plan(arguments=other)) == []
    assert any(
        "optim: adafactor" in message for message in messages(plan(arguments=other, preconditioner="linear", refresh=5))
    )


def test_stages_of_pairs_and_merged_eval_sets_are_refused() -> None:
    for stage in ("dpo", "rm", "kto"):
        assert any(f"stage: {stage}" in message for message in messages(plan(stage=stage)))
    (message,) = messages(plan(arguments={"eval_dataset": "a,b"}))
    assert "2 data sets" in message
    (message,) = messages(plan(arguments={"eval_dataset": "a"}, targets=("c",)))
    assert "names c" in message


@pytest.mark.parametrize("key", ["torch_compile", "use_unsloth"])
def test_layers_that_are_computed_otherwise_are_refused(key: str) -> None:
    (message,) = messages(plan(arguments={key: True}))
    assert f"{key} (from run.yaml)" in message
    assert messages(plan(arguments={key: False})) == messages(plan(arguments={key: True}, scores=True)) == []


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert messages(dataclasses.replace(plan(stage="dpo", warmup=0), component=other)) == []


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(InfluenceParams))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preconditioner": "linear"}, "Set refresh"),
        ({"mode": "sample", "aggregate": "round_robin"}, "mode: sample needs max or mean"),
        ({"targets": []}, "targets names no eval set"),
        ({"ridge": 0}, "ridge"),
        ({"max_labels": 31}, "max_labels"),
        ({"share": 1.5}, "share"),
        ({"features": "words"}, "features"),
        ({"passes": 0}, "passes"),
    ],
)
def test_values_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bind_values(Subject(name="influence", kind=Kind.SELECTOR).find(), given)
