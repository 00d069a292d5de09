"""``components``: what is read, where a value came from, and what may not stand together; all of it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dataflex.cli.check_run import _described
from dataflex.config import run_warnings
from dataflex.config.components import choose
from dataflex.config.gathering import Gathered
from dataflex.config.prepared import PreparedRun, prepare
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError
from dataflex.kinds import Kind, StepKeys, in_turn
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.pool_scores.request import read_request
from dataflex.runs import TrainType

MINE = """
from dataflex import Mixer, Need, Selector, Weighter, register_mixer, register_selector, register_weighter

@register_selector("picks")
class Picks(Selector):
    def __init__(self, focus="high", replacement=False, passes=1):
        pass
    def select(self, model, step_id, num_samples):
        return list(range(num_samples))

@register_selector("balances", needs={Need.DOMAINS})
class Balances(Picks):
    pass

@register_selector("labels")
class Labels(Picks):
    def directions(self, model, step_id):
        return None

@register_selector("labels_of_all")
class LabelsOfAll(Labels):
    def select(self, model, step_id, num_samples, candidates=None):
        return list(range(num_samples))

@register_mixer("mixes")
class Mixes(Mixer):
    def mix(self, model, step_id):
        return [0.5, 0.5]

@register_mixer("aioli")
class Aioli(Mixes):
    pass

@register_mixer("objects", needs={Need.DOMAIN_LOSSES})
class Objects(Mixes):
    def objective_weights(self, tokens):
        return [0.5, 0.5]

@register_weighter("weighs")
class Weighs(Weighter):
    def weights(self, losses_B, context):
        return losses_B

@register_weighter("reduces")
class Reduces:
    def get_weighted_loss(self, losses, *, ctx, model, inputs):
        return losses.mean()

@register_weighter("steps")
class Steps:
    def training_step(self, ctx, model, inputs, num_items_in_batch, use_weighter):
        return None
"""
KEYS: dict[str, Any] = {
    "stage": "sft", "do_train": True, "dataset": "a,b", "output_dir": "out", "train_type": "dynamic",
    "init_mixture_proportions": [0.5, 0.5], "warmup_step": 2, "update_step": 2, "update_times": 2,
}  # fmt: skip


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(MINE)
    plugins = PluginManager.load(PluginOptions.gather([str(tmp_path / "mine.py")], {}))

    def prepared(components: Any, *overrides: str, **keys: Any) -> PreparedRun:
        given = {**KEYS, **({} if components is None else {"components": components}), **keys}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(given))
        return prepare(read_run_file(tmp_path / "run.yaml", overrides), plugins)

    return prepared


def test_parts_decide_in_turn_whatever_their_order_in_the_file(prepared) -> None:
    run = prepared(
        {"weighter": "weighs", "selector": {"name": "picks", "keep": 0.5}, "mixer": {"name": "mixes", "every": 3}}
    )
    found = [(part.entry.spec.name, part.every, part.keep) for part in run.parts]
    assert found == [("mixes", 3, "stage"), ("picks", 1, 0.5), ("weighs", 1, "stage")]
    assert run.mixture is not None and run.facts.step_keys is StepKeys.BOUNDARIES
    assert _described(run) == "dynamic with the mixer mixes, the selector picks and the weighter weighs"
    assert in_turn(Kind) == [Kind.MIXER, Kind.SELECTOR, Kind.ORDERER, Kind.WEIGHTER]


def test_the_command_line_reaches_parameters_of_a_component_that_the_file_only_names(prepared) -> None:
    run = prepared({"selector": "picks"}, "components.selector.params.focus=low")
    (part,) = run.parts
    assert part.bound.values["focus"] == "low" and part.bound.sources["focus"] == "the command line"
    run = prepared({"selector": {"name": "picks", "params": {"focus": "low"}}}, "components.selector.keep=0.25")
    assert run.parts[0].bound.values["focus"] == "low" and run.parts[0].keep == 0.25


def test_presets_stand_for_components(prepared, tmp_path) -> None:
    (tmp_path / "presets.yaml").write_text("selectors:\n  mine: {name: picks, params: {focus: low}}\n")
    run = prepared({"selector": {"name": "mine", "params": {"passes": 1}}}, components_cfg_file="presets.yaml")
    assert run.parts[0].entry.spec.name == "picks" and run.parts[0].bound.values["focus"] == "low"


def test_a_weighter_alone_reads_the_step_keys_as_weight_runs_do(prepared) -> None:
    run = prepared({"weighter": "weighs"})
    assert run.facts.step_keys is StepKeys.EVERY_STEP and run.mixture is None


def test_any_rule_goes_with_the_static_mixer_alone(prepared) -> None:
    rule = {"mixture_sample_rule": "uniform", "init_mixture_proportions": None}
    run = prepared({"mixer": "static", "selector": "picks"}, **rule)
    assert run.parts[0].entry.dist == "dataflex-core"
    with pytest.raises(ConfigError, match=r"components\.mixer: mixes would be ignored. Use components\.mixer: static"):
        prepared({"mixer": "mixes"}, **rule)


@pytest.mark.parametrize(
    ("components", "keys", "said"),
    [
        (
            {"selector": ["picks", "picks"]},
            {},
            r"components\.selector .* names 2 components, and a run has at most one",
        ),
        ({}, {}, r"components .* names no component"),
        (None, {}, r"components .* names no component"),
        ({"selector": None}, {}, r"components .* names no component"),
        (
            {"selector": "picks"},
            {"train_type": "dynamic_select", "component_name": "picks"},
            r"belongs to train_type: dynamic,",
        ),
        ({"selector": "picks"}, {"component_name": "picks"}, r"component_name .* names the only component of a run"),
        ({"selectors": "picks"}, {}, r"components\.selectors .* is no kind of component\. Did you mean 'selector'"),
        (
            {"selector": {"name": "picks", "evry": 2}},
            {},
            r"components\.selector .* unknown key 'evry'\. Did you mean 'every'",
        ),
        ({"selector": {"params": {}}}, {}, r"components\.selector\.name: None"),
        ({"selector": {"name": "picks", "every": 0}}, {}, r"components\.selector\.every: 0 .* at least 1"),
        ({"selector": {"name": "picks", "keep": 1.5}}, {}, r"components\.selector\.keep: 1\.5 .* at most 1"),
        ({"selector": {"name": "picks", "keep": 0}}, {}, r"components\.selector\.keep: 0 .* above 0"),
        (
            {"weighter": {"name": "weighs", "every": 2}},
            {},
            r"components\.weighter\.every .*a weighter acts in every step",
        ),
        ({"weighter": {"name": "weighs", "keep": 0.5}}, {}, r"components\.weighter\.keep .*a weighter keeps no rows"),
        (
            {"mixer": "objects", "weighter": "steps"},
            {},
            r"'steps' does the whole training step itself, so mixer 'objects'",
        ),
        ({"mixer": "objects", "weighter": "reduces"}, {}, r"'reduces' reduces .* cannot be split by the domains"),
        (
            {"mixer": "mixes", "selector": "labels"},
            {},
            r"'labels' learns from labels of all rows .* Have its select\(\) name candidates",
        ),
        ({"mixer": "mixes", "selector": "balances"}, {}, r"'balances' balances the domains itself, and mixer 'mixes'"),
        (
            {"selector": {"name": "picks", "keep": 0.5, "params": {"replacement": True}}},
            {},
            r"keep: 0\.5 .* replacement: true",
        ),
        (
            {"selector": {"name": "picks", "params": {"passes": 2}}},
            {},
            r"passes: 2 .* Say components\.selector\.keep: SHARE",
        ),
        ({"selector": {"name": "picks", "params": {"fokus": 1}}}, {}, r"has no parameter 'fokus'"),
        ({"selector": "balances"}, {}, r"'balances' needs domains, which only a run with a mixer has"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_loads(prepared, components, keys, said) -> None:
    with pytest.raises(ConfigError, match=said):
        prepared(components, **keys)


def test_all_that_is_wrong_is_said_at_once(prepared) -> None:
    wrong = {"mixer": {"name": "objects", "keep": 0.5}, "weighter": {"name": "reduces", "every": 2}, "slector": "picks"}
    with pytest.raises(ConfigError) as refused:
        prepared(wrong, warmup_step=-1)
    assert len(str(refused.value).splitlines()) == 4


@pytest.mark.parametrize(
    "pair",
    [
        {"mixer": "mixes", "selector": "labels_of_all"},
        {"mixer": "mixes", "weighter": "reduces"},
        {"mixer": "mixes", "weighter": "steps"},
        {"mixer": "objects", "weighter": "weighs"},
    ],
)
def test_what_goes_together_is_not_refused(prepared, pair) -> None:
    assert len(prepared(pair).parts) == 2


def test_what_does_not_do_quite_what_it_says_is_warned_of(prepared, tmp_path) -> None:
    prepared({"mixer": "aioli", "selector": "picks"}, mixture_max_epochs=2)
    said = " ".join(run_warnings.warnings(read_run_file(tmp_path / "run.yaml")))
    assert "mixer 'aioli' measures by how much losses fall" in said and "mixture_max_epochs counts draws" in said


def test_scores_are_the_selectors_and_without_one_there_are_none(prepared, tmp_path) -> None:
    prepared({"mixer": "mixes", "selector": {"name": "picks", "params": {"focus": "low"}}})
    request = read_request(tmp_path / "run.yaml", [], None, None, tmp_path / "scores")
    assert request.run.train_type is TrainType.SELECT
    assert (request.run.ours["component_name"], request.run.ours["component_params"]) == ("picks", {"focus": "low"})
    prepared({"mixer": "mixes"})
    with pytest.raises(ConfigError, match=r"components of run\.yaml has no selector"):
        read_request(tmp_path / "run.yaml", [], None, None, tmp_path / "scores")


@pytest.mark.parametrize(("written", "name"), [("no", "no"), ("{name: on, every: 2}", "on"), ("2023", "2023")])
def test_a_word_in_the_place_of_a_component_is_its_name(tmp_path: Path, written: str, name: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"train_type: dynamic\ncomponents:\n  selector: {written}\n")
    (chosen,) = choose(read_run_file(path), Gathered())
    assert chosen.name == name


def test_a_truth_value_in_the_place_of_a_component_is_to_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"train_type": "dynamic", "components": {"selector": false}}')
    problems = Gathered()
    assert not list(choose(read_run_file(path), problems))
    assert "is a truth value where only a name can stand. Quote it" in str(problems.errors[0])
