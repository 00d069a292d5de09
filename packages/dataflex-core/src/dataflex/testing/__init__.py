"""Small real things to test a component with, and the checks that every component has to pass.

subject   which component, with which parameters
bench     a tiny run around it: model, pool, collator, optimizer; one class for each kind
checks    one function for each promise, its docstring says how to mend a broken one
runner    all checks of a component: ``dataflex check-component``
parametrize   the same as a pytest decorator (``pip install dataflex-core[testing]``)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflex.testing.parametrize import parametrize_with_checks as parametrize_with_checks

__all__ = ["parametrize_with_checks"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dataflex.testing' has no attribute {name!r}")
    return getattr(import_module("dataflex.testing.parametrize"), name)
