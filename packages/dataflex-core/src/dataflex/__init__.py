"""DataFlex: data-centric training of language models.

Names are imported when first used, so that ``import dataflex`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflex.components.mixer import Mixer as Mixer
    from dataflex.components.registry import register_mixer as register_mixer
    from dataflex.components.registry import register_selector as register_selector
    from dataflex.components.registry import register_weighter as register_weighter
    from dataflex.components.selector import Selection as Selection
    from dataflex.components.selector import Selector as Selector
    from dataflex.components.weighter import Weighter as Weighter
    from dataflex.plugins.hookspecs import hookimpl as hookimpl

__version__ = "0.2.0"

_HOMES = {
    "Mixer": "dataflex.components.mixer",
    "Selection": "dataflex.components.selector",
    "Selector": "dataflex.components.selector",
    "Weighter": "dataflex.components.weighter",
    "hookimpl": "dataflex.plugins.hookspecs",
    "register_mixer": "dataflex.components.registry",
    "register_selector": "dataflex.components.registry",
    "register_weighter": "dataflex.components.registry",
}

__all__ = [
    "Mixer",
    "Selection",
    "Selector",
    "Weighter",
    "hookimpl",
    "register_mixer",
    "register_selector",
    "register_weighter",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dataflex' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
