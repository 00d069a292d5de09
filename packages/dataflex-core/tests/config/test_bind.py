"""Parameters: unknown names refused, sources remembered, both kinds of schema."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from dataflex.config.bind import bind, bind_what_fits, schema
from dataflex.config.gathering import Gathered
from dataflex.config.overrides import find_preset
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError, PluginError
from dataflex.plugins.catalog import CatalogEntry
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


@dataclass(frozen=True, kw_only=True)
class Entry(CatalogEntry):
    """A component whose classes are at hand."""

    target: type
    params: type | None

    def load(self) -> type:
        return self.target

    def load_params(self) -> type | None:
        return self.params


def entry(params: type | None = Params, target: type = Bare, **said: Any) -> Entry:
    spec = ComponentSpec(kind=Kind.SELECTOR, name="mine", target="m:Mine", api=1, **said)
    return Entry(spec=spec, dist="d", target=target, params=params)


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


@dataclass(frozen=True)
class Named:
    points: dict[int, dict[str, float]] = param(default_factory=dict)
    targets: tuple[str, ...] | None = param(None)
    mode: Literal["on", "off"] = param("on")
    index_file: str = param("", aliases=())
    reference: str = param("", aliases=("reference_model_path",))
    folder: Path | None = param(None)
    prompt: str = param("")
    limit: int | str = param(0)


NAMES = """
component_params:
  points: {2: {en: 0.7, no: 0.3}, 012: {en: 0.3, no: 0.7}}
  targets: [no, 2023]
  mode: off
  prompt: 1e3
  limit: 012
"""


def test_words_that_stand_for_names_are_taken_as_they_were_written(tmp_path):
    (tmp_path / "run.yaml").write_text(NAMES)
    run = read_run_file(tmp_path / "run.yaml")
    bound = bind(entry(Named), [("run.yaml", run.ours["component_params"])], {"run.yaml": run.written})
    assert bound.params == Named(
        points={2: {"en": 0.7, "no": 0.3}, 10: {"en": 0.3, "no": 0.7}},
        targets=("no", "2023"),
        mode="off",
        prompt="1e3",
        limit=10,
    )


def test_words_of_a_preset_and_its_name_are_taken_as_they_were_written(tmp_path):
    (tmp_path / "presets.yaml").write_text("selectors: {no: {name: mine, params: {targets: [on, 2023]}}}")
    (tmp_path / "run.yaml").write_text(f"component_name: no\ncomponents_cfg_file: {tmp_path}/presets.yaml\n")
    preset = find_preset(read_run_file(tmp_path / "run.yaml"), Kind.SELECTOR)
    bound = bind(entry(Named), [(preset.source, preset.params)], {preset.source: preset.written})
    assert (preset.name, bound.params.targets) == ("mine", ("on", "2023"))


def test_a_number_without_a_text_is_refused_in_the_place_of_a_name(tmp_path):
    (tmp_path / "run.json").write_text('{"component_params": {"targets": ["a", 2023]}}')
    run = read_run_file(tmp_path / "run.json")
    with pytest.raises(ConfigError, match=r'component_params.targets: 2023 \(from run.json\) .* Quote it: "2023"'):
        bind(entry(Named), [("run.json", run.ours["component_params"])], {"run.json": run.written})


def test_a_home_folder_is_expanded_in_parameters_that_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = dict.fromkeys(("index_file", "reference_model_path", "folder", "prompt", "cache_dir"), "~/x")
    bound = bind(entry(Named), [("run.yaml", given)])
    there = f"{tmp_path}/x"
    assert (bound.params.index_file, bound.params.reference, bound.params.folder) == (there, there, Path(there))
    assert (bound.params.prompt, bound.run_values) == ("~/x", {"cache_dir": there})


def test_all_that_is_wrong_with_parameters_is_told_at_once():
    values = {"focuss": "high", "heaat": 1, "temperature": "hot", "seed": -1}
    with pytest.raises(ConfigError) as caught:
        bind(entry(), [("run.yaml", values)])
    lines = str(caught.value).splitlines()
    assert [any(word in line for line in lines) for word in ("'focuss'", "'heaat'", "temperature: 'hot'", "seed: -1")]
    assert len(lines) == 4


def test_what_is_right_is_bound_beside_what_is_wrong():
    problems = Gathered()
    values = {"focuss": "high", "temperature": "hot", "quantiles": [0.1, 0.9]}
    bound = bind_what_fits(entry(), [("run.yaml", values)], {}, problems)
    assert bound.params == Params(quantiles=(0.1, 0.9)) and len(problems.errors) == 2


INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Ranged:
    share: float = param(0.5, "", above=0, at_most=1)
    heat: float | None = param(None, "", at_least=0, below=INF)
    shift: float = param(0.0, "", above=-INF, below=INF)
    pair: tuple[float, ...] = param((0.1, 0.9), "", at_least=0, at_most=1)
    points: dict[int, dict[str, float | None]] = param(default_factory=dict, at_least=0)
    order: str = param("up", "", choices=("up", "down"))
    orders: list[str] = param(default_factory=list, choices=("up", "down"))
    limit: int | Literal["auto"] | bool = param("auto", "", at_least=1)
    budget: int | str = param("auto", "", at_least=1, choices=("auto", "all"))

    def __post_init__(self) -> None:
        assert 1 / self.share >= 1  # may rely on the range
        if self.heat == 3:
            raise ValueError("heat of 3 goes with nothing")


@pytest.mark.parametrize(
    ("values", "place", "must"),
    [
        ({"share": 0}, "share: 0", "above 0 and at most 1"),
        ({"share": 1.25}, "share: 1.25", "above 0 and at most 1"),
        ({"share": NAN}, "share: nan", "above 0 and at most 1"),
        ({"heat": -1}, "heat: -1", "at least 0 and finite"),
        ({"heat": INF}, "heat: inf", "at least 0 and finite"),
        ({"heat": NAN}, "heat: nan", "at least 0 and finite"),
        ({"shift": -INF}, "shift: -inf", "finite"),
        ({"shift": INF}, "shift: inf", "finite"),
        ({"pair": [0.5, 1.5]}, "pair[1]: 1.5", "at least 0 and at most 1"),
        ({"pair": [NAN, 0.5]}, "pair[0]: nan", "at least 0 and at most 1"),
        ({"points": {7: {"web": 1, "code": -1}}}, "points.7.code: -1.0", "at least 0"),
        ({"order": "Up"}, "order: 'Up'", "one of up, down"),
        ({"orders": ["up", "left"]}, "orders[1]: 'left'", "one of up, down"),
        ({"limit": 0}, "limit: 0", "at least 1"),
        ({"budget": 0}, "budget: 0", "at least 1 or one of auto, all"),
        ({"budget": "none"}, "budget: 'none'", "at least 1 or one of auto, all"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_place_its_source_and_the_range(values, place, must):
    with pytest.raises(ConfigError) as caught:
        bind(entry(Ranged), [("run.yaml", values)])
    assert str(caught.value) == f"selector 'mine': component_params.{place} (from run.yaml) must be {must}."


@pytest.mark.parametrize(
    "values",
    [
        {"share": 1},
        {"heat": None},
        {"heat": 0},
        {"pair": [0, 1]},
        {"pair": []},
        {"points": {7: {"web": None, "code": INF}}},  # an infinite bound asks for a finite number, no other does
        {"orders": ["down", "up"]},
        {"limit": "auto"},
        {"limit": 1},
        {"limit": False},
        {"budget": 7},
        {"budget": "all"},
    ],
)
def test_a_value_within_the_range_is_bound(values):
    (name,) = values
    bound = bind(entry(Ranged), [("run.yaml", values)]).values[name]
    assert (list(bound) if isinstance(bound, tuple) else bound) == values[name]


def test_values_out_of_range_are_told_beside_all_else_that_is_wrong():
    problems = Gathered()
    values = {"share": 2, "pair": [-1, 0.5, 2], "order": 5, "shift": 1.5}
    bound = bind_what_fits(entry(Ranged), [("run.yaml", values)], {}, problems)
    assert bound.params == Ranged(shift=1.5)
    told = "\n".join(map(str, problems.errors))
    assert all(word in told for word in ("share: 2 (", "pair[0]: -1.0 (", "pair[2]: 2.0 (", "order: 5 ("))
    assert len(problems.errors) == 3


def test_a_required_parameter_out_of_range_is_not_called_missing():
    @dataclass(frozen=True)
    class Needed:
        share: float = param(help="", above=0)

    problems = Gathered()
    assert bind_what_fits(entry(Needed), [("run.yaml", {"share": 0})], {}, problems) is None
    assert [str(error) for error in problems.errors] == [
        "selector 'mine': component_params.share: 0 (from run.yaml) must be above 0."
    ]


def test_a_type_is_told_before_a_range():
    with pytest.raises(ConfigError, match=r"share: False \(from run.yaml\): False is not a number"):
        bind(entry(Ranged), [("run.yaml", {"share": False})])
    with pytest.raises(ConfigError, match=r"heat: 'hot' \(from run.yaml\): .*valid number"):
        bind(entry(Ranged), [("run.yaml", {"heat": "hot"})])


def test_an_error_of_somebodys_post_init_is_told_in_its_own_words():
    with pytest.raises(ConfigError) as caught:
        bind(entry(Ranged), [("run.yaml", {"heat": 3})])
    assert str(caught.value) == "selector 'mine': its parameters (from run.yaml): heat of 3 goes with nothing"


def test_a_default_outside_its_own_range_is_refused_where_it_is_written():
    with pytest.raises(PluginError, match=r"the default 0 holds 0, which must be above 0"):
        param(0, "", above=0)
    with pytest.raises(PluginError, match=r"the default \('up', 'left'\) holds 'left', which must be one of up, down"):
        param(("up", "left"), "", choices=("up", "down"))


def test_an_old_name_of_a_component_is_ignored_or_refused_with_its_own_sentence(caplog):
    mine = entry(legacy={"eps": "Nothing is divided here."}, refused={"probs_path": "Aim with targets."})
    with caplog.at_level(logging.WARNING, "dataflex"):
        assert bind(mine, [("run.yaml", {"eps": 1e-8, "focus": "low"})]).params.focus == "low"
    assert caplog.messages == ["selector 'mine' ignores the parameter 'eps' (from run.yaml): Nothing is divided here."]
    with pytest.raises(ConfigError) as refused:
        bind(mine, [("run.yaml", {"probs_path": "p.npy"})])
    assert str(refused.value) == "selector 'mine' takes no parameter 'probs_path' (from run.yaml): Aim with targets."


def test_old_names_hold_for_their_component_alone():
    with pytest.raises(ConfigError, match="has no parameter 'eps'"):
        bind(entry(), [("run.yaml", {"eps": 1e-8})])
