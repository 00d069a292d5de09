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
from dataflex_selectors_delta_loss import plugin
from dataflex_selectors_delta_loss.params import DeltaLossParams

SPEC = plugin.dataflex_components()[0]


def facts(*, stage: str = "sft", steps: Steps | None = None, scores_only: bool = False, **params: Any) -> RunFacts:
    return RunFacts(
        train_type=TrainType.SELECT,
        stage=stage,
        component=SPEC,
        dist="dataflex-selectors-delta-loss",
        version="0.1.0",
        params=dataclasses.asdict(DeltaLossParams(**params)),
        steps=steps or Steps(warmup=5, update=10, times=4),
        output_dir=Path("out"),
        arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        source="run.yaml",
        scores_only=scores_only,
    )


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_selectors_delta_loss.plugin as p, dataflex_selectors_delta_loss.params\n"
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
    (problem,) = plugin.dataflex_check_run(facts(stage=stage))
    assert f"stage: {stage} (from run.yaml)" in problem.message


@pytest.mark.parametrize(
    ("steps", "enough"),
    [
        (Steps(warmup=5, update=10, times=1), False),
        (Steps(warmup=5, update=10, times=2), True),
        (Steps(warmup=5, update=10, times=4, train=15), False),
        (Steps(warmup=5, update=10, times=1, train=16), True),
        (Steps(warmup=5, update=10, times=-1), True),  # not known yet
    ],
)
def test_a_run_of_one_boundary_is_refused(steps: Steps, enough: bool) -> None:
    found = plugin.dataflex_check_run(facts(steps=steps))
    assert [problem.fix for problem in found] == (
        [] if enough else ["Set update_times to 4 or more, or component_name: random."]
    )
    assert plugin.dataflex_check_run(dataclasses.replace(facts(), every=2)) == []
    assert len(plugin.dataflex_check_run(dataclasses.replace(facts(), every=4))) == 1


def test_a_pool_is_scored_with_a_checkpoint_only() -> None:
    (problem,) = plugin.dataflex_check_run(facts(scores_only=True, steps=Steps(warmup=0, update=1, times=1)))
    assert "--checkpoint" in problem.fix
    assert plugin.dataflex_check_run(facts(scores_only=True, steps=Steps(warmup=7, update=1, times=1))) == []


def test_a_part_of_the_pool_that_cannot_fill_a_stage_is_refused() -> None:
    (problem,) = plugin.dataflex_check_run(facts(max_candidates=39))
    assert "max_candidates=39" in problem.message
    assert plugin.dataflex_check_run(facts(max_candidates=39, replacement=True)) == []


def test_runs_of_other_components_are_left_alone() -> None:
    other = dataclasses.replace(SPEC, target="mine.selector:Mine")
    assert plugin.dataflex_check_run(dataclasses.replace(facts(stage="dpo"), component=other)) == []


def test_names_of_older_files_are_understood_or_left_out() -> None:
    entry = Subject(name="delta_loss", kind=Kind.SELECTOR).find()
    bound = bind_values(entry, {"window_size": 0.1, "score_batch_size": 4, "score_num_workers": 2})
    assert bound.params == DeltaLossParams(window=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 0}, "window: 0 .* must be above 0"),
        ({"window": 1.2}, "window: 1.2 .* at most 1"),
        ({"steepness": 0}, "steepness: 0 .* must be at least 0.001"),
        ({"outside_weight": 0}, "outside_weight: 0 .* must be above 0"),
        ({"passes": 0}, "passes: 0 .* must be at least 1"),
        ({"max_candidates": 0}, "max_candidates: 0 .* must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="delta_loss", kind=Kind.SELECTOR).find(), given)


def test_every_parameter_has_a_help_text() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(DeltaLossParams))
