"""What a weighter's class says of itself: its window, and whether its methods and settings go together."""

from __future__ import annotations

from typing import Any

from dataflex.components.asking import Asking
from dataflex.components.weighter import Weighter
from dataflex.errors import ComponentError


def window_of(asking: Asking) -> Any:
    """The window a native weighter asks for, with or without our base class; other styles have no normaliser."""
    return asking.attribute("window") if asking.defines("weights") else Weighter.window


def check_class(asking: Asking) -> None:
    """Refuse, before anything trains, a class whose methods or settings do not go together.

    Raises:
        ComponentError: says what is missing, doubled or out of range.
    """
    native, own_step, title = asking.defines("weights"), asking.defines("training_step"), asking.title
    if native and own_step:
        raise ComponentError(
            f"{title} has both weights() and training_step(), of which only one can make the loss. Leave one out."
        )
    if not native and not own_step and not asking.defines("get_weighted_loss"):
        raise ComponentError(f"{title} weighs nothing: it has no weights(), get_weighted_loss() or training_step().")
    chunk = asking.attribute("chunk_tokens")
    for name, value in (("window", window_of(asking)), ("chunk_tokens", 1 if chunk is None else chunk)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ComponentError(f"{title}: its attribute {name} must be a whole number of at least 1, not {value!r}.")
