"""The visible form, in gradio: controls that read and write the one hidden field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dataflex.config.bind import schema
from dataflex.errors import DataFlexError
from dataflex.kinds import Kind, TrainType
from dataflex.plugins.catalog import Catalog
from dataflex.webui import edits
from dataflex.webui.choice import Choice
from dataflex.webui.form import Field, Widget, fields, problems
from dataflex.webui.offer import offered
from dataflex.webui.run_file import total_steps
from dataflex.webui.started import Started
from dataflex.webui.words import WORDS, word

STEP_KEYS = ("warmup_step", "update_step", "update_times", "train_step")
_PREFIX = "dataflex_"


class Section(Started):
    """DataFlex in LlamaBoard's Train tab, as :class:`dataflex.bridge.board.Section` asks for it.

    Args:
        catalog: The components.
        plugins: The values of ``-p``.
    """

    def __init__(self, catalog: Catalog, plugins: Any = ()) -> None:
        super().__init__(catalog, plugins)
        self._components = catalog

    def words(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Labels of the controls that are always there."""
        names = {"tab": "title", "on": "on", "train_type": "train_type"}
        return {
            f"{_PREFIX}{control}": {language: {"label": text} for language, text in WORDS[name].items()}
            for control, name in names.items()
        }

    def build(self, engine: Any) -> tuple[Any, Mapping[str, Any]]:
        """Build the form within the tab."""
        import gradio

        language = engine.manager.get_elem_by_id("top.lang")
        field = gradio.Textbox(value=Choice().to_json(), visible=False)
        with gradio.Accordion(open=False) as tab:
            with gradio.Row():
                on = gradio.Checkbox(value=False)
                types = [each.value for each in TrainType if each is not TrainType.STATIC]
                train_type = gradio.Dropdown(types, value=TrainType.SELECT.value)
            shape = gradio.State("")  # what the form is drawn anew for: not for a value that was just entered
            gradio.render(inputs=[field, language], triggers=[shape.change, language.change])(self._form(field))
        on.input(lambda text, now: _edited(text, lambda choice: _replace(choice, on=bool(now))), [field, on], field)
        train_type.input(_with_train_type, [field, train_type], field)
        field.change(_seen, field, [on, train_type, shape])
        return field, {f"{_PREFIX}tab": tab, f"{_PREFIX}on": on, f"{_PREFIX}train_type": train_type}

    def _form(self, field: Any) -> Callable[[str, str], None]:
        def form(text: str, language: str) -> None:
            choice = Choice.from_json(text)
            if choice.on:
                self._steps(choice, field, language)
                for kind in edits.kinds_of(choice.train_type):
                    self._component(choice, kind, field, language)

        return form

    def _steps(self, choice: Choice, field: Any, language: str) -> None:
        import gradio

        with gradio.Row():
            for name in STEP_KEYS:
                number = gradio.Number(value=choice.keys.get(name), label=name, precision=0)
                number.input(_setting_key(name), [field, number], field)
        total = gradio.Markdown(_said_total(choice, language))
        field.change(lambda text: _said_total(Choice.from_json(text), language), field, total)

    def _component(self, choice: Choice, kind: Kind, field: Any, language: str) -> None:
        import gradio

        chosen = next((each for each in choice.components if each.kind is kind), None)
        offers = {each.name: each for each in offered(self._components, kind)}
        name = chosen.name if chosen is not None else ""
        label = f"{word('component', language)}: {kind}"
        names = gradio.Dropdown(["", *offers], value=name, label=label)
        names.input(_setting_component(kind), [field, names], field)
        if chosen is None or name not in offers:
            return
        about = offers[name]
        gradio.Markdown(f"{about.summary} {about.paper}".strip())
        infos = schema(self._components.find(kind, name))
        for each in fields(infos):
            control = _control(each, chosen.params.get(each.name, each.shown))
            control.change(_setting_param(kind, each.name), [field, control], field)
        wrong = gradio.Markdown(self._said_wrong(kind, name, chosen.params))

        def check(text: str) -> str:
            now = next((each for each in Choice.from_json(text).components if each.kind is kind), None)
            return "" if now is None or now.name != name else self._said_wrong(kind, name, now.params)

        field.change(check, field, wrong)

    def _said_wrong(self, kind: Kind, name: str, params: Mapping[str, Any]) -> str:
        entry = self._components.find(kind, name)
        return "\n\n".join(problems(entry, schema(entry), params).values())


def _control(field: Field, value: Any) -> Any:
    import gradio

    common = {"label": field.name, "info": field.help}
    if field.widget is Widget.SWITCH:
        return gradio.Checkbox(value=bool(value), **common)
    if field.widget is Widget.CHOICE:
        return gradio.Dropdown(list(field.options), value=value, **common)
    if field.widget is Widget.NUMBER:
        return gradio.Number(value=None if value == "" else value, **common)
    return gradio.Textbox(value=str(value), **common)


def _edited(text: str, edit: Callable[[Choice], Choice]) -> str:
    return edit(Choice.from_json(text)).to_json()


def _replace(choice: Choice, **changes: Any) -> Choice:
    return Choice(**{**vars(choice), **changes})


def _with_train_type(text: str, train_type: str) -> str:
    return _edited(text, lambda choice: edits.with_train_type(choice, TrainType(train_type)))


def _setting_key(name: str) -> Callable[[str, Any], str]:
    return lambda text, value: _edited(text, lambda choice: edits.with_keys(choice, {name: value}))


def _setting_component(kind: Kind) -> Callable[[str, str], str]:
    return lambda text, name: _edited(text, lambda choice: edits.with_component(choice, kind, name or ""))


def _setting_param(kind: Kind, name: str) -> Callable[[str, Any], str]:
    return lambda text, value: _edited(text, lambda choice: edits.with_param(choice, kind, name, value))


def _seen(text: str) -> tuple[bool, str, str]:
    """What the controls above the form show of a field, and what the form is drawn anew for."""
    choice = Choice.from_json(text)
    shape = [choice.on, choice.train_type.value, *((each.kind.value, each.name) for each in choice.components)]
    return choice.on, choice.train_type.value, str(shape)


def _said_total(choice: Choice, language: str) -> str:
    try:
        total = total_steps(choice)
    except DataFlexError as error:
        return str(error)
    return word("total_later", language) if total is None else word("total", language, total=f"{total:,}")
