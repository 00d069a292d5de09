"""A module that moved is found under its old name, is the same module, and says where it is now."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module

import pytest

from dataflex._moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_new_module_and_says_so_once(old: str) -> None:
    new = import_module(f"dataflex.{MOVED[old]}")
    sys.modules.pop(f"dataflex.{old}", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert import_module(f"dataflex.{old}") is import_module(f"dataflex.{old}") is new
    said = f"dataflex.{old} is {new.__name__} from 0.2 on; the old name goes with 0.3"
    assert [str(each.message) for each in caught if "0.2 on" in str(each.message)] == [said]
    assert new.__spec__ is not None and new.__spec__.name == new.__name__ == f"dataflex.{MOVED[old]}"
