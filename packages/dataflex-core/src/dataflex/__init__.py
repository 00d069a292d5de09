"""DataFlex: data-centric training of language models. What the author of a component imports is all here.

Names are imported when first used, so that ``import dataflex`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dataflex._moved import find_moved

if TYPE_CHECKING:
    from dataflex.components.candidates import Candidates as Candidates
    from dataflex.components.context import RunContext as RunContext
    from dataflex.components.mixer import Mixer as Mixer
    from dataflex.components.orderer import Orderer as Orderer
    from dataflex.components.orderer import Pattern as Pattern
    from dataflex.components.registry import register_mixer as register_mixer
    from dataflex.components.registry import register_orderer as register_orderer
    from dataflex.components.registry import register_selector as register_selector
    from dataflex.components.registry import register_weighter as register_weighter
    from dataflex.components.selector import Selection as Selection
    from dataflex.components.selector import Selector as Selector
    from dataflex.components.weighter import Weighter as Weighter
    from dataflex.config.order_params import OrdererParams as OrdererParams
    from dataflex.errors import ComponentError as ComponentError
    from dataflex.errors import ConfigError as ConfigError
    from dataflex.plugins.hookspecs import hookimpl as hookimpl
    from dataflex.runs import Problem as Problem
    from dataflex.spec import ComponentSpec as ComponentSpec
    from dataflex.spec import Kind as Kind
    from dataflex.spec import Need as Need
    from dataflex.spec import param as param

__version__ = "0.2.0"

_HOMES = {
    "Candidates": "dataflex.components.candidates",
    "ComponentError": "dataflex.errors",
    "ComponentSpec": "dataflex.spec",
    "ConfigError": "dataflex.errors",
    "Kind": "dataflex.spec",
    "Mixer": "dataflex.components.mixer",
    "Need": "dataflex.spec",
    "Orderer": "dataflex.components.orderer",
    "OrdererParams": "dataflex.config.order_params",
    "Pattern": "dataflex.components.orderer",
    "Problem": "dataflex.runs",
    "RunContext": "dataflex.components.context",
    "Selection": "dataflex.components.selector",
    "Selector": "dataflex.components.selector",
    "Weighter": "dataflex.components.weighter",
    "hookimpl": "dataflex.plugins.hookspecs",
    "param": "dataflex.spec",
    "register_mixer": "dataflex.components.registry",
    "register_orderer": "dataflex.components.registry",
    "register_selector": "dataflex.components.registry",
    "register_weighter": "dataflex.components.registry",
}

__all__ = [
    "Candidates",
    "ComponentError",
    "ComponentSpec",
    "ConfigError",
    "Kind",
    "Mixer",
    "Need",
    "Orderer",
    "OrdererParams",
    "Pattern",
    "Problem",
    "RunContext",
    "Selection",
    "Selector",
    "Weighter",
    "hookimpl",
    "param",
    "register_mixer",
    "register_orderer",
    "register_selector",
    "register_weighter",
]


find_moved()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dataflex' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
