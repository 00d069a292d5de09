"""The part of the form that depends on the choice, drawn anew whenever other controls are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataflex.config.bind import schema
from dataflex.errors import DataFlexError
from dataflex.kinds import KINDS, Kind
from dataflex.plugins.catalog import Catalog
from dataflex.webui import controls, edits
from dataflex.webui.choice import SHOWN, Choice
from dataflex.webui.form import Field, fields, problems
from dataflex.webui.offer import offered
from dataflex.webui.run_file import total_steps
from dataflex.webui.started import as_text
from dataflex.webui.words import word

Setter = Callable[[Choice, Any], Choice]


class Drawn:
    """One drawing of the form, within the page.

    All controls write together: each event carries the values of all, so that none overtakes another.

    Args:
        catalog: The components.
        choice: What is shown.
        language: As LlamaBoard calls it.
    """

    def __init__(self, catalog: Catalog, choice: Choice, language: str) -> None:
        self._catalog, self._choice, self._language = catalog, choice, language
        self._controls: list[tuple[Any, Setter]] = []
        self._said: list[tuple[Any, Callable[[Choice], str]]] = []

    def draw(self, field: Any) -> None:
        """Draw it.

        Args:
            field: The hidden field.
        """
        import gradio

        self._keys()
        for kind in edits.kinds_of(self._choice.train_type):
            self._component(kind)
        inputs = [control for control, _ in self._controls]
        gradio.on(
            [event for control in inputs for event in controls.told_by(control)],
            self._write,
            [field, *inputs],
            [field, *(place for place, _ in self._said)],
            trigger_mode="always_last",
            show_progress="hidden",
        )

    def _write(self, text: str, *values: Any) -> tuple[str, ...]:
        choice = before = Choice.from_json(text)
        for (_, setter), value in zip(self._controls, values, strict=True):
            choice = setter(choice, value)
        shown = SHOWN if _structure(choice) == _structure(before) else ""
        return choice.to_json() + shown, *(say(choice) for _, say in self._said)

    def _saying(self, say: Callable[[Choice], str]) -> None:
        import gradio

        self._said.append((gradio.Markdown(say(self._choice)), say))

    def _keys(self) -> None:
        import gradio

        train_type, keys = self._choice.train_type, self._choice.keys
        with gradio.Row():
            for key in controls.keys_of(train_type, steps=True):
                self._controls.append((controls.of_key(key, keys), _setting_key(key.name)))
        self._saying(lambda choice: _said_total(choice, self._language))
        further = controls.keys_of(train_type, steps=False)
        needed = any(key.name in keys for key in further)
        mixes = train_type.kind is not None and KINDS[train_type.kind].mixes
        with gradio.Accordion(word("further", self._language), open=needed or mixes), gradio.Row():
            for key in further:
                self._controls.append((controls.of_key(key, keys), _setting_key(key.name)))

    def _component(self, kind: Kind) -> None:
        import gradio

        chosen = next((each for each in self._choice.components if each.kind is kind), None)
        offers = {each.name: each for each in offered(self._catalog, kind)}
        name = chosen.name if chosen is not None else ""
        label = f"{word('component', self._language)}: {kind}"
        with gradio.Row():
            names = gradio.Dropdown(["", *offers], value=name, label=label, allow_custom_value=True)
            self._controls.append((names, lambda choice, value: edits.with_component(choice, kind, value or "")))
            if self._choice.is_composed and chosen is not None:
                every = controls.number(chosen.every, 1, label=word("every", self._language))
                self._controls.append((every, lambda choice, value: edits.with_every(choice, kind, value)))
        if chosen is None or name not in offers:
            return
        about = offers[name]
        gradio.Markdown(as_text(f"{about.summary} {about.paper}".strip()))
        try:
            shown = fields(schema(self._catalog.find(kind, name)))
        except DataFlexError as error:
            gradio.Markdown(as_text(str(error)))
            return
        with gradio.Row():
            for each in shown:
                control = controls.of_field(each, chosen.params.get(each.name, each.shown))
                self._controls.append((control, _setting_param(kind, name, each)))
        self._saying(lambda choice: self._said_wrong(choice, kind, name))

    def _said_wrong(self, choice: Choice, kind: Kind, name: str) -> str:
        now = next((each for each in choice.components if each.kind is kind and each.name == name), None)
        if now is None:
            return ""
        entry = self._catalog.find(kind, name)
        return _warned("\n".join(problems(entry, schema(entry), now.params).values()))


def _structure(choice: Choice) -> str:
    """What decides which controls there are."""
    return str([choice.on, choice.train_type.value, *((each.kind.value, each.name) for each in choice.components)])


def _warned(said: str) -> str:
    return "\n\n".join(f"⚠ {as_text(line)}" for line in said.splitlines())


def _setting_key(name: str) -> Setter:
    return lambda choice, value: edits.with_keys(choice, {name: value})


def _setting_param(kind: Kind, of: str, field: Field) -> Setter:
    def set_param(choice: Choice, value: Any) -> Choice:
        there = any(each.kind is kind and each.name == of for each in choice.components)
        given = None if value == field.shown else value
        return edits.with_param(choice, kind, field.name, given) if there else choice

    return set_param


def _said_total(choice: Choice, language: str) -> str:
    try:
        total = total_steps(choice)
    except DataFlexError as error:
        return _warned(str(error))
    return word("total_later", language) if total is None else word("total", language, total=f"{total:,}")
