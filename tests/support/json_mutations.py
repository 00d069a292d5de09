"""Files of JSON that somebody or something spoilt: every value replaced, every field left out, the text cut."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

OTHERS: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        10**30,
        10**400,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "1",
        "数据",
        [],
        [1],
        ["a"],
        [None],
    ),
    *({}, {"a": 1}, [[]], "../x", "\x00"),
)
"""Values of every kind."""


def spoilt(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What was done to which field, and the text that is left: fields replaced, left out and added; the text cut."""
    for path in _paths(record):
        name = ".".join(map(str, path))
        for value in OTHERS:
            yield f"{name} = {value!r}"[:60], json.dumps(_replaced(record, path, value))
        yield f"without {name}", json.dumps(_without(record, path))
    text = json.dumps(record)
    for end in (0, 1, len(text) // 2, len(text) - 1):
        yield f"cut at {end}", text[:end]
    yield "one field more", json.dumps({**record, "of_a_later_version": 1})
    yield "not an object", "[1, 2]"
    yield "nested deeply", "[" * 10**5
    yield "text after it", text + "}"


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, (*path, key))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))


def _replaced(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(record)
    _parent(changed, path)[path[-1]] = value
    return changed


def _without(record: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(record)
    del _parent(changed, path)[path[-1]]
    return changed


def _parent(record: Any, path: tuple[Any, ...]) -> Any:
    for part in path[:-1]:
        record = record[part]
    return record
