"""LlamaBoard's abort ends a component's decision at once, with the checkpoint that a failing component leaves."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from dataflex.components.asking import Asking
from dataflex.components.selector import Selector
from dataflex.errors import ComponentError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGABRT ends a process there")


class Endless:
    """Its first pass is aborted; it would go on for ever, and tries again after every error."""

    def select(self):
        while True:
            try:
                os.kill(os.getpid(), signal.SIGABRT)
            except Exception:
                continue


class Kept:
    def keep(self) -> str:
        return "; the steps done are kept"

    last_whole = keep


@pytest.fixture
def flagged(monkeypatch):
    """LlamaFactory's handler, as its callback installs it in a run that LlamaBoard has started."""
    monkeypatch.setenv("LLAMABOARD_ENABLED", "1")
    seen: list[int] = []
    before = signal.signal(signal.SIGABRT, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGABRT, before)


def test_a_decision_ends_with_the_steps_kept_and_llamafactory_hears_of_it(flagged):
    asking = Asking(Endless(), Selector, "the selector endless", progress=Kept())
    said = r"the selector endless failed in select\(\) at step 3: it was aborted in LlamaBoard; the steps done are kept"
    with pytest.raises(ComponentError, match=said), asking.agreed("step 3"):
        asking.call("select")
    assert flagged == [signal.SIGABRT]


def test_between_decisions_the_signal_is_llamafactorys_alone(flagged):
    handler = signal.getsignal(signal.SIGABRT)
    with Asking(Endless(), Selector, "it").agreed("step 3"):
        assert signal.getsignal(signal.SIGABRT) is not handler
    assert signal.getsignal(signal.SIGABRT) is handler
    os.kill(os.getpid(), signal.SIGABRT)
    assert flagged == [signal.SIGABRT]


def test_a_run_that_llamaboard_has_not_started_keeps_its_handler(flagged, monkeypatch):
    monkeypatch.delenv("LLAMABOARD_ENABLED")
    handler = signal.getsignal(signal.SIGABRT)
    with Asking(Endless(), Selector, "it").agreed("step 3"):
        assert signal.getsignal(signal.SIGABRT) is handler


def test_an_exchange_with_other_ranks_is_not_left_halfway(flagged, monkeypatch):
    within = [True, True, False]
    monkeypatch.setattr("dataflex.components.abort.in_exchange", lambda frame: within.pop(0))
    monkeypatch.setattr("dataflex.components.abort._AGAIN_SECONDS", 0.01)
    with pytest.raises(ComponentError, match="aborted in LlamaBoard"), Asking(None, Selector, "it").agreed("step 3"):
        os.kill(os.getpid(), signal.SIGABRT)
        while True:
            signal.pause()
    assert within == [] and len(flagged) == 3
