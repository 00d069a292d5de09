"""Conversions that pydantic makes and a user did not mean: true for 1, 1 for true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def mistaken(given: Any, taken: Any) -> Iterator[str]:
    """Where a truth value was taken for a number or the other way round, in a value and all it holds.

    Args:
        given: The value as it was written.
        taken: What validation made of it.

    Yields:
        What is wrong, in words.
    """
    if isinstance(given, (bool, int, float)):
        if isinstance(given, bool) != isinstance(taken, bool) and isinstance(taken, (bool, int, float)):
            yield f"{given!r} is not {'true or false' if isinstance(taken, bool) else 'a number'}"
        return
    if isinstance(given, Mapping) and isinstance(taken, Mapping):
        for (name, value), (key, result) in zip(given.items(), taken.items(), strict=False):
            yield from mistaken(name, key)
            yield from mistaken(value, result)
    elif _is_list(given) and _is_list(taken):
        for value, result in zip(given, taken, strict=False):
            yield from mistaken(value, result)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
