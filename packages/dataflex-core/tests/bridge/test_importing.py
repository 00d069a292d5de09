"""The collector is off while libraries load, and as it was afterwards."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from dataflex.bridge.importing import uncollected


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def load(monkeypatch: pytest.MonkeyPatch, modules: int) -> None:
    for index in range(modules):
        monkeypatch.setitem(sys.modules, f"loaded_{index}", ModuleType(f"loaded_{index}"))


def test_what_was_loaded_is_not_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncollected():
        assert not gc.isenabled()
        load(monkeypatch, 100)
    assert gc.isenabled()
    assert gc.get_freeze_count() >= 100


def test_nothing_is_frozen_where_little_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncollected():
        load(monkeypatch, 99)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_an_error_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off_and_nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.disable()
    with uncollected():
        load(monkeypatch, 200)
    assert not gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_block_within_a_block_leaves_it_to_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncollected():
        with uncollected():
            load(monkeypatch, 200)
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() >= 200
