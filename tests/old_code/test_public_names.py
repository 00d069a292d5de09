"""Every public name of core 0.1 still imports.

``public_names.txt`` holds what docs/reference/api.md named, and what docs/plugins.md and docs/your_method.md imported,
at commit f3a71b2: a module, or ``module:name``. A name may move; its old place then says where it is now, until 0.3.
"""

from __future__ import annotations

import functools
import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

NAMES = Path(__file__).with_name("public_names.txt").read_text(encoding="utf-8").split()


def look_up(name: str) -> Any:
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split(".") if path else (), import_module(module))


def test_the_list_holds_what_authors_begin_with() -> None:
    assert {"dataflex:Selector.select", "dataflex.spec:param", "dataflex.runs:RunPlan"} <= set(NAMES)
    assert len(NAMES) == len(set(NAMES)) == 174


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_of_before_still_imports_and_says_where_it_moved(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert look_up(name) is not None
    old = name.replace(":", ".")
    for message in (str(each.message) for each in caught if old in str(each.message)):
        assert re.search(r"dataflex[\w.]*", message.replace(old, "")), f"{message!r} does not say where {old} is now"


def test_the_old_places_of_a_class_hold_the_class_itself() -> None:
    assert look_up("dataflex.core.registry:register_selector") is look_up("dataflex:register_selector")
    assert issubclass(look_up("dataflex.train.selector.base_selector:Selector"), look_up("dataflex:Selector"))
