"""The visible form: built with gradio, without a browser and without LlamaBoard."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

gradio = pytest.importorskip("gradio")

from dataflex.kinds import Kind, TrainType  # noqa: E402
from dataflex.plugins.catalog import Catalog, CatalogEntry  # noqa: E402
from dataflex.plugins.manager import Plugin  # noqa: E402
from dataflex.spec import ComponentSpec, param  # noqa: E402
from dataflex.webui import saved  # noqa: E402
from dataflex.webui.choice import Choice, Chosen  # noqa: E402
from dataflex.webui.drawn import Drawn  # noqa: E402
from dataflex.webui.section import _seen, _switched  # noqa: E402


@dataclass(frozen=True)
class Params:
    share: float = param(0.5, "How many.", above=0.0, at_most=1.0)
    focus: str = param("high", "Which rows.", choices=("high", "low"))


@pytest.fixture
def catalog(monkeypatch) -> Catalog:
    monkeypatch.setattr(CatalogEntry, "load_params", lambda self: Params)
    spec = ComponentSpec(kind="selector", name="loss", target="a:B", api=1, summary="By *loss*", paper="arXiv:1")
    return Catalog([Plugin(dist="one", version="1", components=(spec,))])


class Form:
    """What a drawing shows, and what entering values into it does."""

    def __init__(self, catalog: Catalog, choice: Choice, language: str = "en") -> None:
        self.choice = choice
        with gradio.Blocks():
            self._drawn = Drawn(catalog, choice, language)
            self._drawn.draw(gradio.Textbox())
        self.shown = {control.label: control.value for control, _ in self._drawn._controls}

    def enter(self, **values) -> tuple[Choice, bool]:
        """The choice then, and whether the form is to be drawn anew."""
        self.shown |= {name.replace("component_", "Component: "): value for name, value in values.items()}
        text, *self.said = self._drawn._write(self.choice.to_json(), *self.shown.values())
        self.choice = Choice.from_json(text)
        return self.choice, _seen(text, "", 1)[-1] > 1


LOSS = Choice(on=True, components=[Chosen(kind=Kind.SELECTOR, name="loss", params={"share": 0.25})])


def test_what_was_chosen_is_shown_and_only_what_was_entered_is_kept(catalog):
    form = Form(catalog, LOSS)
    assert form.shown["share"] == 0.25 and form.shown["focus"] == "high"
    choice, anew = form.enter(focus="low", warmup_step=2, update_step=3, update_times=4)
    assert not anew and choice.keys == {"warmup_step": 2, "update_step": 3, "update_times": 4}
    assert choice.components[0].params == {"share": 0.25, "focus": "low"}
    assert form.enter(focus="high", share=0.5)[0].components[0].params == {}


def test_total_and_what_is_wrong_are_said_at_once(catalog):
    form = Form(catalog, LOSS)
    form.enter()
    assert "update_step is missing from the page" in form.said[0]
    form.enter(warmup_step=2, update_step=3, update_times=4)
    assert form.said == ["14 optimizer steps in all", ""]
    form.enter(share=1.5)
    assert form.said[1].startswith("⚠ selector 'loss': component_params.share: 1.5 (from the page) must be above 0")


def test_another_component_is_drawn_anew_without_the_parameters_of_the_one_before(catalog):
    form = Form(catalog, LOSS)
    choice, anew = form.enter(component_selector="mine", share=0.75)
    assert anew and choice.components == [Chosen(kind=Kind.SELECTOR, name="mine")]
    assert "share" not in Form(catalog, choice).shown


@pytest.mark.parametrize("train_type", [each for each in TrainType if each is not TrainType.STATIC])
def test_each_train_type_has_the_keys_that_it_reads(catalog, train_type):
    shown = Form(catalog, Choice(on=True, train_type=train_type), "zh").shown
    kinds = [name for name in shown if name.startswith("组件")]
    assert len(kinds) == {TrainType.COMPOSED: len(Kind), TrainType.STATIC_MIX: 0}.get(train_type, 1)
    assert ("mixture_unit" in shown) == (train_type in (TrainType.MIX, TrainType.STATIC_MIX, TrainType.COMPOSED))
    assert ("update_step" in shown) == (train_type is not TrainType.WEIGHT) and "train_step" in shown


def test_the_form_is_drawn_anew_for_loaded_values_and_not_for_those_just_entered(catalog, tmp_path):
    form = Form(catalog, LOSS)
    first, *_ = form._drawn._write(LOSS.to_json(), *form.shown.values())
    later, *_ = form._drawn._write(first, *(form.shown | {"warmup_step": 2}).values())
    # The page hears of the first one only once the second has been written.
    assert _seen(first, LOSS.to_json(), 1) == (True, "dynamic_select", first, 1)
    assert _seen(later, first, 1) == _seen(later, later, 1) == (True, "dynamic_select", later, 1)
    saved.save(tmp_path / "args.yaml", later)
    loaded = saved.load(tmp_path / "args.yaml")
    assert Choice.from_json(loaded) == Choice.from_json(later) and _seen(loaded, later, 1)[-1] == 2
    assert _seen(loaded, loaded, 2)[-1] == 2  # told twice


def test_switching_keeps_what_was_chosen_as_far_as_the_train_type_takes_it():
    off = Choice.from_json(_switched(LOSS.to_json(), False, "dynamic_select"))
    assert not off.on and off.components == LOSS.components
    assert Choice.from_json(_switched(LOSS.to_json(), True, "dynamic_weight")).components == []
