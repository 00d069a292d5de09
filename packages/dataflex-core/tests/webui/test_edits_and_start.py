"""What the controls do to a choice, what is offered, and what is started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dataflex.errors import ConfigError
from dataflex.kinds import Kind, TrainType
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import Plugin, PluginStatus
from dataflex.record import lock
from dataflex.record.run import FOLDER
from dataflex.spec import ComponentSpec, param
from dataflex.webui.choice import Choice, Chosen
from dataflex.webui.edits import kinds_of, with_component, with_every, with_keys, with_param, with_train_type
from dataflex.webui.offer import Offered, broken, offered
from dataflex.webui.started import Started


@dataclass(frozen=True)
class Params:
    share: float = param(0.5, "How many.", above=0.0, at_most=1.0)


def spec(name: str, kind: str = "selector", api: int = 1) -> ComponentSpec:
    return ComponentSpec(kind=kind, name=name, target="a:B", api=api, summary=f"{name} it", paper="arXiv:1")


@pytest.fixture
def catalog(monkeypatch) -> Catalog:
    monkeypatch.setattr(CatalogEntry, "load_params", lambda self: Params)
    return Catalog([Plugin(dist="one", version="1", components=(spec("loss"), spec("near"), spec("loss", "weighter")))])


def test_another_train_type_drops_what_it_does_not_take():
    both = Choice(components=[Chosen(kind=Kind.SELECTOR, name="loss"), Chosen(kind=Kind.WEIGHTER, name="loss")])
    assert [each.kind for each in with_train_type(both, TrainType.WEIGHT).components] == [Kind.WEIGHTER]
    assert len(with_train_type(both, TrainType.COMPOSED).components) == 2
    assert with_train_type(both, TrainType.STATIC).components == [] and kinds_of(TrainType.COMPOSED) == list(Kind)
    assert kinds_of(TrainType.STATIC_MIX) == []  # a plan of the keys alone


def test_another_component_begins_with_its_own_defaults_and_the_same_one_keeps_its_values():
    first = with_param(with_component(Choice(), Kind.SELECTOR, "loss"), Kind.SELECTOR, "focus", "low")
    assert first.components == [Chosen(kind=Kind.SELECTOR, name="loss", params={"focus": "low"})]
    assert with_component(first, Kind.SELECTOR, "loss") == first
    assert with_param(first, Kind.SELECTOR, "focus", "").components[0].params == {}
    assert with_component(first, Kind.SELECTOR, "near").components == [Chosen(kind=Kind.SELECTOR, name="near")]
    assert with_component(first, Kind.SELECTOR, "").components == []
    two = with_component(first, Kind.WEIGHTER, "loss")
    assert [each.name for each in two.components] == ["loss", "loss"] and two.components[0].params == {"focus": "low"}


def test_a_component_is_asked_at_every_boundary_unless_a_whole_number_says_otherwise():
    choice = with_component(Choice(train_type=TrainType.COMPOSED), Kind.SELECTOR, "loss")
    assert [with_every(choice, Kind.SELECTOR, every).components[0].every for every in (3, 0, None, "x")] == [3, 1, 1, 1]


def test_an_empty_key_is_taken_off():
    choice = with_keys(Choice(), {"warmup_step": 3, "update_step": 5})
    assert with_keys(choice, {"update_step": None, "train_step": ""}).keys == {"warmup_step": 3}


def test_what_can_be_used_is_offered_and_the_rest_is_named():
    plugins = [
        Plugin(dist="one", version="1", components=(spec("loss"), spec("near"))),
        Plugin(dist="two", version="1", components=(spec("near"), spec("old", api=99), spec("even", "mixer"))),
        Plugin(dist="three", version="2", status=PluginStatus.BROKEN, reason="no module"),
        Plugin(dist="four", version="2", status=PluginStatus.BLOCKED, reason="switched off"),
    ]
    catalog = Catalog(plugins)
    assert offered(catalog, Kind.SELECTOR) == [
        Offered("loss", "loss it", "arXiv:1"),
        Offered("one/near", "near it", "arXiv:1"),
        Offered("two/near", "near it", "arXiv:1"),
    ]
    assert [name for name, _ in broken(plugins, catalog)] == ["three 2", "selector old"]
    assert all(reason for _, reason in broken(plugins, catalog))


def test_a_component_of_a_users_file_stands_for_its_namesake():
    mine = Plugin(dist="/my/mine.py", inline=True, components=(spec("near"),))
    catalog = Catalog([Plugin(dist="one", version="1", components=(spec("near"),)), mine])
    assert [each.name for each in offered(catalog, Kind.SELECTOR)] == ["near"]


def started(catalog, wrong=(), plugins=()) -> Started:
    return Started(catalog, lambda run: wrong, plugins)


def test_a_choice_becomes_the_run_file_that_is_started(catalog, tmp_path):
    section = started(catalog, plugins=["no:other"])
    choice = Choice(on=True, components=[Chosen(kind=Kind.SELECTOR, name="loss", params={"share": 0.25})])
    choice = with_keys(choice, {"warmup_step": 2.0})
    run = section.run({"output_dir": str(tmp_path / "out"), "stage": "sft"}, choice.to_json())
    assert "component_params" in section.preview(run, "en")
    assert list(tmp_path.iterdir()) == [] and section.folder is None  # a preview writes nothing
    program, train, path = section.command(run)
    assert (Path(program).name, train, section.folder) == ("dataflex-cli", "train", tmp_path / "out")
    assert yaml.safe_load(Path(path).read_text()) == {
        "output_dir": str(tmp_path / "out"),
        "stage": "sft",
        "train_type": "dynamic_select",
        "component_name": "loss",
        "component_params": {"share": 0.25},
        "warmup_step": 2,
        "plugins": ["no:other"],
    }


def test_what_is_wrong_with_a_run_stands_above_its_preview_and_refuses_its_start(catalog):
    section = started(catalog, ["dataset: `a` is *not* there.", "lr: <b> is no number."])
    refused = section.refusal({"output_dir": "out"}, "en")
    assert refused.splitlines() == [
        "This run cannot start:",
        "",
        r"- dataset: \`a\` is \*not\* there.",
        r"- lr: \<b> is no number.",
    ]
    assert section.preview({"output_dir": "out"}, "en").startswith(refused)
    assert section.refusal({"output_dir": "out"}, "zh").startswith("无法启动训练")
    assert started(catalog).refusal({"output_dir": "out"}, "en") == ""


def test_a_folder_that_another_run_writes_to_is_not_started_in(catalog, tmp_path):
    section, run = started(catalog), {"output_dir": str(tmp_path / "out")}
    with lock.hold(tmp_path / "out", FOLDER):
        refused = section.refusal(run, "en")
    assert "another run writes to output" in refused and f"(process {os.getpid()} on " in refused
    assert section.refusal(run, "en") == "" and not (tmp_path / "out").exists()


def test_the_section_off_is_no_run_of_ours(catalog):
    assert not started(catalog).is_on(Choice().to_json()) and not started(catalog).is_on("")
    assert started(catalog).is_on(Choice(on=True).to_json())


def test_a_component_that_vanished_since_is_named(catalog):
    gone = Choice(on=True, components=[Chosen(kind=Kind.SELECTOR, name="gone")])
    with pytest.raises(ConfigError, match="no selector 'gone' is installed"):
        started(catalog).run({"output_dir": "out"}, gone.to_json())


def test_a_preset_is_chosen_by_the_name_that_its_file_gives_it(catalog):
    mine = Choice(
        on=True,
        components=[Chosen(kind=Kind.SELECTOR, name="mine")],
        keys={"components_cfg_file": "presets.yaml"},
    )
    run = started(catalog).run({"output_dir": "out"}, mine.to_json())
    assert (run["component_name"], run["components_cfg_file"]) == ("mine", "presets.yaml")
