"""Parameters: unknown names refused, sources remembered, both kinds of schema."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest

from dataflex.config.bind import bind, schema
from dataflex.errors import ConfigError
from dataflex.spec import ComponentSpec, Kind, param


@dataclass(frozen=True)
class Params:
    focus: Literal["low", "high"] = param("high", "Which losses to prefer.")
    temperature: float = param(1.0, "Softness of the draw.", aliases=("heat",))
    quantiles: tuple[float, float] = param((0.25, 0.75), "The band.")


class NoteStyle:
    def __init__(self, dataset, accelerator, data_collator, cache_dir, strategy: str, rate: float = 0.5, other=None):
        pass


class Bare:
    pass


def entry(params=Params, target=Bare):
    spec = ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:Mine", api=1)
    return SimpleNamespace(spec=spec, load=lambda: target, load_params=lambda: params)


def test_later_layers_win_and_sources_are_remembered():
    bound = bind(
        entry(),
        [
            ("components.yaml", {"focus": "low", "temperature": 2}),
            ("run.yaml", {"temperature": 3}),
            ("the command line", {"quantiles": [0.1, 0.9]}),
        ],
    )
    assert bound.params == Params(focus="low", temperature=3.0, quantiles=(0.1, 0.9))
    assert bound.sources == {"focus": "components.yaml", "temperature": "run.yaml", "quantiles": "the command line"}
    assert bound.values == {"focus": "low", "temperature": 3.0, "quantiles": (0.1, 0.9)}


def test_defaults_say_so():
    assert bind(entry(), []).sources == dict.fromkeys(["focus", "temperature", "quantiles"], "default")


def test_an_unknown_parameter_is_refused_with_the_nearest_name_and_its_source():
    with pytest.raises(
        ConfigError, match=r"'mine' has no parameter 'focuss' \(from run.yaml\)\. Did you mean 'focus'\?"
    ):
        bind(entry(), [("run.yaml", {"focuss": "high"})])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"focus": "middle"}, r"component_params.focus: 'middle' \(from run.yaml\): Input should be 'low' or 'high'"),
        ({"temperature": "hot"}, r"component_params.temperature: 'hot' \(from run.yaml\): .*valid number"),
        ({"quantiles": [0.1]}, r"component_params.quantiles: .*\(from run.yaml\)"),
    ],
)
def test_an_ill_typed_value_is_named_with_its_source(values, message):
    with pytest.raises(ConfigError, match=message):
        bind(entry(), [("run.yaml", values)])


def test_an_older_name_is_mapped():
    assert bind(entry(), [("components.yaml", {"heat": 0.5})]).params.temperature == 0.5


def test_a_name_of_dataflex_1_that_has_no_meaning_here_is_ignored_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "dataflex"):
        assert bind(entry(), [("components.yaml", {"save_interval": 16})]).params == Params()
    assert "'save_interval' (from components.yaml)" in caplog.text


def test_cache_dir_and_seed_belong_to_every_component():
    bound = bind(entry(), [("run.yaml", {"cache_dir": "x", "seed": 5})])
    assert bound.run_values == {"cache_dir": "x", "seed": 5} and bound.params == Params()


def test_the_runs_own_names_are_checked_too():
    with pytest.raises(ConfigError, match=r"component_params.seed: 'abc' \(from run.yaml\): .*valid integer"):
        bind(entry(), [("run.yaml", {"seed": "abc"})])
    with pytest.raises(ConfigError, match=r"component_params.seed: -1 \(from run.yaml\) must be at least 0"):
        bind(entry(), [("run.yaml", {"seed": -1})])


def test_a_class_without_params_has_its_constructors():
    infos = {info.name: info for info in schema(entry(params=None, target=NoteStyle))}
    assert list(infos) == ["cache_dir", "strategy", "rate", "other"]
    assert infos["strategy"].required and not infos["cache_dir"].required
    assert (infos["rate"].type, infos["rate"].default) == ("float", 0.5)


def test_the_runs_own_names_have_a_type_without_an_annotation():
    types = {info.name: info.type for info in schema(entry(params=None, target=NoteStyle))}
    assert types["cache_dir"] == "str"


def test_constructor_parameters_are_checked_too():
    noted = entry(params=None, target=NoteStyle)
    assert bind(noted, [("run.yaml", {"strategy": "a", "rate": 1})]).values == {
        "strategy": "a",
        "rate": 1.0,
        "other": None,
    }
    with pytest.raises(ConfigError, match=r"needs the parameter 'strategy'; set component_params.strategy"):
        bind(noted, [])
    with pytest.raises(ConfigError, match=r"component_params.rate: 'fast' \(from run.yaml\)"):
        bind(noted, [("run.yaml", {"strategy": "a", "rate": "fast"})])
    with pytest.raises(ConfigError, match=r"has no parameter 'dataset'"):
        bind(noted, [("run.yaml", {"strategy": "a", "dataset": 1})])


def test_a_class_without_a_constructor_has_no_parameters():
    assert schema(entry(params=None)) == []
