"""Forms made from schemas: a widget for each parameter, the CLI's words for what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from dataflex.config.bind import bind
from dataflex.plugins.catalog import CatalogEntry
from dataflex.spec import ComponentSpec, param
from dataflex.webui.form import Field, Widget, entered, fields, problems, spelt
from dataflex.webui.words import word


@dataclass(frozen=True)
class Params:
    needed: str = param(help="Has no default.")
    focus: str = param("high", "Which rows.", choices=("high", "low"))
    strategy: Literal["hard", "soft"] = param("hard", "How.")
    share: float = param(0.5, "How many.", above=0.0, at_most=1.0)
    width: int = param(64, "How wide.", above=0)
    normalise: bool = param(True, "Whether to.")
    limit: int | None = param(None, "Most rows.")
    names: list[str] = param(help="Some names.", default_factory=list)
    by: float | str = param(1.0, "A number or a word.")


@pytest.fixture
def entry() -> CatalogEntry:
    spec = ComponentSpec(kind="selector", name="formed", target=f"{__name__}:Target", api=1)
    made = object.__new__(CatalogEntry)
    for name in CatalogEntry.__dataclass_fields__:
        object.__setattr__(made, name, "")
    object.__setattr__(made, "spec", spec)
    return made


@pytest.fixture
def infos(entry, monkeypatch):
    from dataflex.config.bind import schema

    monkeypatch.setattr(CatalogEntry, "load_params", lambda self: Params)
    return schema(entry)


def by_name(infos) -> dict[str, Field]:
    return {each.name: each for each in fields(infos)}


def test_each_type_has_its_widget(infos):
    found = by_name(infos)
    assert {name: each.widget.value for name, each in found.items()} == {
        "needed": "text",
        "focus": "choice",
        "strategy": "choice",
        "share": "number",
        "width": "number",
        "normalise": "switch",
        "limit": "text",
        "names": "text",
        "by": "text",
    }
    assert found["focus"].options == ["high", "low"] and found["strategy"].options == ["hard", "soft"]
    assert found["needed"].required and not found["share"].required


def test_ranges_and_defaults_are_shown(infos):
    found = by_name(infos)
    assert found["share"].shown == 0.5
    assert found["share"].help == "How many. Must be above 0.0 and at most 1.0."
    assert found["normalise"].shown is True and found["focus"].shown == "high"
    assert (found["limit"].shown, found["names"].shown, found["by"].shown) == ("", "[]", "1.0")
    assert found["needed"].widget is Widget.TEXT and found["needed"].shown == ""


def test_only_what_differs_from_its_default_goes_into_the_run(infos):
    values = {"focus": "high", "share": 0.25, "width": 128.0, "normalise": False, "limit": "", "names": "[a, b]"}
    assert entered(infos, values) == {"share": 0.25, "width": 128, "normalise": False, "names": ["a", "b"]}
    assert entered(infos, {"needed": "1"}) == {"needed": "1"}  # a text stays one
    assert entered(infos, {"by": "loss"}) == {"by": "loss"} and entered(infos, {"limit": "7"}) == {"limit": 7}
    assert type(entered(infos, {"width": 128.0})["width"]) is int


def test_what_is_wrong_stands_at_its_field_in_the_words_of_the_command_line(entry, infos):
    values = {"needed": "x", "share": 1.5, "width": "wide"}
    found = problems(entry, infos, values)
    assert found["share"] == (
        "selector 'formed': component_params.share: 1.5 (from the page) must be above 0.0 and at most 1.0."
    )
    assert "component_params.width: 'wide' (from the page)" in found["width"] and set(found) == {"share", "width"}
    with pytest.raises(Exception, match=r"must be above 0\.0 and at most 1\.0") as refused:
        bind(entry, [("the page", {"needed": "x", "share": 1.5})])
    assert str(refused.value) == found["share"]


def test_a_parameter_that_is_missing_is_named_at_its_field(entry, infos):
    found = problems(entry, infos, {})
    assert list(found) == ["needed"] and "needs the parameter 'needed'" in found["needed"]
    assert problems(entry, infos, {"needed": "x"}) == {}


def test_values_are_spelt_as_a_run_file_has_them():
    values = [None, "", "word", 1, 0.5, 1e-05, True, [1, "a"], {"web": 0.5}]
    assert [spelt(value) for value in values] == ["", "", "word", "1", "0.5", "1.0e-05", "true", "[1, a]", "{web: 0.5}"]


@pytest.mark.parametrize("language", ["en", "zh", "ko"])
def test_a_plugin_that_cannot_be_loaded_is_named_in_every_language(language: str) -> None:
    said = word("broken", language, name="acme", reason="ImportError: x")
    assert "acme" in said and "ImportError: x" in said
