from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from importlib_metadata import entry_points
from pydantic import TypeAdapter

from dataflex.components.mix_context import MixContext, MixtureView
from dataflex.errors import ConfigError
from dataflex.runs import RunFacts, Steps, TrainType
from dataflex.spec import API, ComponentSpec, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_mixers_schedule import plugin
from dataflex_mixers_schedule.mixer import ScheduleMixer, interpolate
from dataflex_mixers_schedule.params import ScheduleParams

SPEC = plugin.dataflex_components()[0]
POINTS = {0: {"web": 1.0, "code": 0.0}, 100: {"web": 0.6, "code": 0.4}, 200: {"web": 0.0, "code": 1.0}}


def mixer(points: dict[int, dict[str, float]], names: tuple[str, ...] = ("web", "code")) -> ScheduleMixer:
    view = MixtureView(names, [10] * len(names), np.full(len(names), 1 / len(names)))
    context = MixContext(dataset=range(20), data_collator=list, mixture=view)
    return ScheduleMixer(ScheduleParams(points=points), context)


@pytest.mark.parametrize(
    ("step", "web"), [(0, 1.0), (25, 0.9), (50, 0.8), (100, 0.6), (150, 0.3), (200, 0.0), (500, 0.0)]
)
def test_proportions_move_in_straight_lines_between_the_points(step: int, web: float) -> None:
    assert mixer(POINTS).mix(None, step) == pytest.approx([web, 1 - web])  # type: ignore[arg-type]


def test_what_is_planned_is_what_will_be_set() -> None:
    planned = mixer(POINTS)
    for step in (0, 25, 150, 500):
        assert planned.planned(step).tolist() == planned.mix(None, step).tolist()  # type: ignore[arg-type]


def test_before_the_first_point_its_proportions_hold() -> None:
    assert mixer({50: {"web": 0.2, "code": 0.8}}).mix(None, 3).tolist() == [0.2, 0.8]  # type: ignore[arg-type]


def test_proportions_come_in_the_order_of_the_domains_not_of_the_file() -> None:
    assert mixer(POINTS, ("code", "web")).mix(None, 100) == pytest.approx([0.4, 0.6])  # type: ignore[arg-type]


def test_points_may_be_listed_in_any_order() -> None:
    assert interpolate(dict(reversed(POINTS.items())), 50) == pytest.approx({"web": 0.8, "code": 0.2})


def test_an_unknown_domain_is_refused_at_construction_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"at step 0 names the unknown domain 'cod'. Did you mean 'code'\?"):
        mixer({0: {"web": 0.5, "cod": 0.5}})


def test_a_domain_left_out_is_refused_at_construction() -> None:
    with pytest.raises(ConfigError, match="has no value for code"):
        mixer({0: {"web": 1.0}})


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "points is empty"),
        ({-5: {"web": 1.0}}, "has the step -5"),
        ({0: {"web": 0.9, "code": 0.6}}, r"sum to 1.5 at step 0, not to 1 \(web: 0.9, code: 0.6\)"),
        ({7: {"web": 1.5, "code": -0.5}}, r"points\.7\.code: -0.5 .* must be at least 0"),
        ({7: {"web": float("nan"), "code": 0.5}}, r"points\.7\.web: nan .* must be at least 0"),
        ({0: {"web": 1.0}, 9: {"web": 0.5, "code": 0.5}}, "name 'code' at step 9 but not at step 0"),
        ({0: {"web": 0.5, "code": 0.5}, 9: {"web": 1.0}}, "name 'code' at step 0 but not at step 9"),
    ],
)
def test_points_that_make_no_schedule_are_refused_before_anything_loads(
    points: dict[int, dict[str, float]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="schedule", kind=Kind.MIXER).find(), {"points": points})


def test_points_are_read_from_json_with_text_keys_and_refused_alike() -> None:
    adapter = TypeAdapter(ScheduleParams)
    assert adapter.validate_python({"points": {"10": {"web": 1}}}).points == {10: {"web": 1.0}}
    with pytest.raises(ConfigError, match="sum to 2"):
        adapter.validate_python({"points": {0: {"web": 2}}})


def plan(dataset: Any, component: ComponentSpec = SPEC) -> RunFacts:
    return RunFacts(
        train_type=TrainType.MIX,
        stage="sft",
        component=component,
        dist="dataflex-mixers-schedule",
        version="0.1.0",
        params={"points": POINTS},
        steps=Steps(warmup=1, update=1, times=1),
        output_dir=Path("out"),
        arguments={"dataset": dataset},
        source="run.yaml",
    )


@pytest.mark.parametrize("dataset", ["web,code", "code, web", ["web", "code"]])
def test_a_run_whose_data_sets_are_all_named_passes_the_check(dataset: Any) -> None:
    assert plugin.dataflex_check_run(plan(dataset)) == []


def test_names_are_compared_with_the_data_sets_before_anything_loads() -> None:
    found = plugin.dataflex_check_run(plan("web,codes,chat"))
    assert [problem.message for problem in found] == [
        "points of mixer 'schedule' names the unknown domain 'code' (from run.yaml). Did you mean 'codes'?",
        "points of mixer 'schedule' leaves out the domain 'codes' (from run.yaml).",
        "points of mixer 'schedule' leaves out the domain 'chat' (from run.yaml).",
    ]


def test_the_check_leaves_runs_of_other_components_alone() -> None:
    other = ComponentSpec(kind=Kind.MIXER, name="schedule", target="mine:Mine", api=1)
    assert plugin.dataflex_check_run(plan("web", other)) == []


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_the_spec_names_what_exists() -> None:
    assert (SPEC.api, SPEC.kind, SPEC.name) == (API, Kind.MIXER, "schedule")
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_every_parameter_has_a_help_text() -> None:
    fields: Any = dataclasses.fields(ScheduleParams)
    assert all(field.metadata["help"] for field in fields)


def test_plugin_and_params_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dataflex_mixers_schedule.plugin as p, dataflex_mixers_schedule.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
