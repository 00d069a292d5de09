"""What counts as a number where a user may write one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can hold; true and false are none."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and abs(value) <= sys.float_info.max


def whole_of(arguments: Mapping[str, Any], key: str) -> int:
    """A whole number among LlamaFactory's keys; -1 for none, and for what is refused as no number later on."""
    value = arguments.get(key)
    return value if isinstance(value, int) and value else -1
