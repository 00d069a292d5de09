"""Fields of a form as controls of gradio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataflex.config.keys import RUN_KEYS, Key
from dataflex.kinds import TrainType
from dataflex.webui.form import Field, Widget

STEP_KEYS = ("warmup_step", "update_step", "update_times", "train_step")
_NONE = "-"
_ELSEWHERE = ("train_type", "component_name", "components", "component_params", "plugins")


def keys_of(train_type: TrainType, *, steps: bool) -> list[Key]:
    """The keys that a train type reads and that have a control of their own: those about steps, or the others."""
    mine = [key for key in RUN_KEYS if train_type in key.used_by and key.name not in _ELSEWHERE]
    return [key for key in mine if (key.name in STEP_KEYS) == steps]


def number(value: Any, otherwise: Any, **common: Any) -> Any:
    """A number, or none: an empty one says what holds then, since gradio takes 0 for it where nothing is said."""
    import gradio

    shown = None if value in (None, "") else value
    return gradio.Number(value=shown, placeholder=str(otherwise) or _NONE, **common)


def told_by(control: Any) -> list[Any]:
    """The events that tell of every change of a control; an emptied number tells only when it is left."""
    import gradio

    return [control.input, control.blur] if isinstance(control, gradio.Number) else [control.input]


def of_key(key: Key, keys: Mapping[str, Any]) -> Any:
    """The control of a key of a run file."""
    import gradio

    value = keys.get(key.name)
    common: dict[str, Any] = {"label": key.name, "info": key.help, "min_width": 200}
    words = key.type.split(" | ")
    if key.name in STEP_KEYS:
        return number(value, _NONE, **common)
    if len(words) > 1 and all(word.isalpha() for word in words):
        return gradio.Dropdown(["", *words], value=value or "", **common)
    return gradio.Textbox(value="" if value is None else str(value), placeholder=key.type, **common)


def of_field(field: Field, value: Any) -> Any:
    """The control of a parameter."""
    import gradio

    common: dict[str, Any] = {"label": field.name, "info": field.help, "min_width": 240}
    if field.widget is Widget.SWITCH:
        return gradio.Checkbox(value=bool(value), **common)
    if field.widget is Widget.CHOICE:
        return gradio.Dropdown(list(field.options), value=value, **common)
    if field.widget is Widget.NUMBER:
        return number(value, field.shown, **common)
    return gradio.Textbox(value="" if value is None else str(value), **common)
