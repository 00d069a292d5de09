"""What was chosen: kept as JSON, saved beside LlamaBoard's file, made into the run file that is shown and started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import Kind, TrainType
from dataflex.webui import saved
from dataflex.webui.choice import Choice, Chosen
from dataflex.webui.run_file import as_yaml, command, our_keys, preview, run_file, total_steps
from dataflex.webui.words import WORDS, word

KEYS = {"warmup_step": 2.0, "update_step": 3, "update_times": 4}
ONE = Choice(on=True, components=[Chosen(kind=Kind.SELECTOR, name="loss", params={"focus": "low"})], keys=KEYS)
SEVERAL = Choice(
    on=True,
    train_type=TrainType.COMPOSED,
    components=[
        Chosen(kind=Kind.WEIGHTER, name="loss"),
        Chosen(kind=Kind.SELECTOR, name="loss", every=2),
        Chosen(kind=Kind.MIXER, name="random"),
    ],
    keys=KEYS,
)


@pytest.mark.parametrize("choice", [Choice(), ONE, SEVERAL])
def test_a_choice_survives_its_field(choice):
    assert Choice.from_json(choice.to_json()) == choice


def test_nothing_in_the_field_is_nothing_chosen_and_anything_else_is_refused():
    assert Choice.from_json("") == Choice() and not Choice().on
    later = json.dumps(json.loads(ONE.to_json()) | {"schema": 2, "of_later": 1})
    assert Choice.from_json(later).components == ONE.components
    for text in (
        "[]",
        "{",
        '{"on": "yes"}',
        '{"train_type": "magic"}',
        '{"components": [{"name": "x"}]}',
        "[" * 10_000,
    ):
        with pytest.raises(ConfigError, match="no fields of DataFlex's section"):
            Choice.from_json(text)


def test_one_component_has_the_keys_of_an_ordinary_run():
    assert our_keys(ONE, [{"focus": "low"}]) == {
        "train_type": "dynamic_select",
        "component_name": "loss",
        "component_params": {"focus": "low"},
        "warmup_step": 2,
        "update_step": 3,
        "update_times": 4,
    }


def test_several_components_stand_in_the_order_in_which_they_decide():
    keys = our_keys(SEVERAL, [{}, {"focus": "low"}, {}])
    assert list(keys["components"].items()) == [
        ("mixer", "random"),
        ("selector", {"name": "loss", "params": {"focus": "low"}, "every": 2}),
        ("weighter", "loss"),
    ]
    assert "component_name" not in keys


def test_keys_are_texts_of_yaml_and_empty_ones_are_left_out():
    choice = Choice(on=True, keys={"warmup_step": "5", "init_mixture_proportions": "{web: 0.5}", "train_step": ""})
    keys = our_keys(choice, [])
    assert keys == {
        "train_type": "dynamic_select",
        "warmup_step": 5,
        "init_mixture_proportions": {"web": 0.5},
    }


def test_the_file_that_is_shown_is_read_as_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_file({"stage": "sft", "dataset": "a,b"}, our_keys(ONE, [{"focus": "low"}]), ["mine.py", "no:other"])
    path = tmp_path / "run.yaml"
    path.write_text(as_yaml(run))
    read = read_run_file(path, [])
    assert read.llamafactory == {"stage": "sft", "dataset": "a,b"}
    assert read.ours["component_params"] == {"focus": "low"} and read.steps().warmup == 2
    assert read.ours["plugins"] == [str(tmp_path / "mine.py"), "no:other"]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # --plugin=~/mine.py, which a shell leaves as it is
    assert run_file({}, {}, ["~/mine.py"])["plugins"] == [str(tmp_path / "home" / "mine.py")]


def test_the_preview_shows_file_and_command_and_no_text_leaves_its_block():
    shown = preview({"note": "```\n# loud\n"}, Path("saves/my run/dataflex_run.yaml"))
    fence = shown.partition("yaml")[0]
    assert fence == "````" and shown.count(f"{fence}yaml") == 1
    assert "dataflex-cli train 'saves/my run/dataflex_run.yaml'" in shown
    inner = shown.removeprefix(f"{fence}yaml\n").partition(f"{fence}\n")[0]
    assert yaml.safe_load(inner) == {"note": "```\n# loud\n"}
    assert command(Path("x y")) == ["dataflex-cli", "train", "x y"]


def test_the_total_of_steps_is_worked_out_where_the_keys_tell_it():
    # by hand: 2 + 3 * 4
    assert total_steps(ONE) == total_steps(SEVERAL) == 14
    assert total_steps(_with(ONE, update_times=-1)) is None
    assert total_steps(_with(ONE, train_step=9)) == 9
    weigh = Choice(on=True, train_type=TrainType.WEIGHT, components=[Chosen(kind=Kind.WEIGHTER, name="loss")])
    assert total_steps(weigh) is None and total_steps(_with(weigh, train_step=30)) == 30
    assert total_steps(Choice(on=True, train_type=TrainType.STATIC)) is None
    order = Choice(on=True, train_type=TrainType.ORDER, components=[Chosen(kind=Kind.ORDERER, name="folding")])
    assert total_steps(order) is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"update_step": 0}, "update_step: 0 .*must be a whole number of at least 1"),
        ({"update_step": 2.5}, "update_step: 2.5"),
        ({"update_times": None}, "update_times"),
        ({"warmup_step": 20, "train_step": 10}, "no boundary"),
    ],
)
def test_steps_that_cannot_be_are_refused_in_the_words_of_the_command_line(keys, said):
    with pytest.raises(DataFlexError, match=said):
        total_steps(_with(ONE, **keys))


def _with(choice: Choice, **keys: object) -> Choice:
    return Choice(on=True, train_type=choice.train_type, components=choice.components, keys={**choice.keys, **keys})


def test_our_field_is_saved_beside_llamaboards_file(tmp_path):
    path = tmp_path / "2026-11-30.yaml"
    saved.save(path, ONE.to_json())
    assert [each.name for each in tmp_path.iterdir()] == ["2026-11-30.dataflex.json"]
    assert Choice.from_json(saved.load(path)) == ONE


def test_arguments_saved_without_dataflex_switch_the_section_off(tmp_path):
    path = tmp_path / "saved.yaml"
    assert Choice.from_json(saved.load(path)) == Choice()
    saved.save(path, ONE.to_json())
    saved.save(path, "")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_of_ours_is_named(tmp_path):
    saved.beside(tmp_path / "saved.yaml").write_text("{")
    with pytest.raises(ConfigError, match=r"saved\.dataflex\.json: these are no fields"):
        saved.load(tmp_path / "saved.yaml")


def test_words_are_there_in_english_and_chinese_and_english_stands_in():
    assert all({"en", "zh"} == set(spelt) and all(spelt.values()) for spelt in WORDS.values())
    assert word("total", "zh", total=14) == "共 14 个优化步"
    assert word("total", "ru", total=14) == "14 optimizer steps in all"
