"""Small real things to test a component with, and the checks that every component has to pass.

subject   which component, with which parameters
bench     a tiny run around it: model, pool, collator, optimizer; one class for each kind
checks    one function for each promise, its docstring says how to mend a broken one
runner    all checks of a component: ``dataflex check-component``
contexts  a context with everything that core hands in, for tests of a component by hand
parametrize   the same as a pytest decorator (``pip install dataflex-core[testing]``)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflex.testing.contexts import make_context as make_context
    from dataflex.testing.parametrize import parametrize_with_checks as parametrize_with_checks

_HOMES = {
    "make_context": "dataflex.testing.contexts",
    "parametrize_with_checks": "dataflex.testing.parametrize",
}

__all__ = ["make_context", "parametrize_with_checks"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dataflex.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
