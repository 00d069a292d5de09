"""Temporarily replace a global of another library's module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def rebound(module: ModuleType | type, name: str, value: Any) -> Iterator[None]:
    """Let a global of a module, or an attribute of a class, be something else while the body runs."""
    old = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, old)
