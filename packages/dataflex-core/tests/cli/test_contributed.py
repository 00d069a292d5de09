"""Commands that packages bring."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def brought(fake_dist: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Two commands of one package: one works, one cannot be imported; a third has the name of one of ours."""
    points = "[dataflex.commands]\nstir = stirrer:main\nbreak = spoon:main\ntrain = stirrer:main\n"
    fake_dist("dataflex-stirrer", "", module="stirrer", entry_points=points)
    calls: list[list[str]] = []
    stirrer = ModuleType("stirrer")
    stirrer.__dict__["main"] = calls.append
    monkeypatch.setitem(sys.modules, "stirrer", stirrer)
    return calls


def test_a_command_of_a_package_gets_its_arguments_as_they_were_typed(run, brought):
    assert run("stir", "run.yaml", "--dry-run", "-p", "x=1").code == 0
    assert brought == [["run.yaml", "--dry-run", "-p", "x=1"]]


def test_help_lists_it_with_who_brought_it_and_imports_nothing(run, brought):
    outcome = run("--help")
    assert "stir" in outcome.out and "Brought by dataflex-stirrer" in outcome.out
    assert outcome.code == 0 and brought == []


def test_a_command_that_cannot_be_loaded_says_why_and_harms_no_other(run, brought):
    outcome = run("break")
    assert outcome.code == 2
    assert "command 'break' of dataflex-stirrer (spoon:main) cannot be loaded" in outcome.err
    assert run("version").code == 0


def test_a_command_of_our_own_is_never_replaced(run, brought):
    assert "Train a model as a run file says" in run("train", "--help").out
    assert brought == []


@pytest.mark.parametrize(
    ("variable", "value"), [("DATAFLEX_LOAD_PLUGINS", "dataflex-other"), ("DATAFLEX_NO_PLUGINS", "1")]
)
def test_a_command_of_a_package_that_is_switched_off_does_not_run(run, brought, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    outcome = run("stir", "run.yaml")
    assert outcome.code == 2 and brought == []
    assert "command 'stir' of dataflex-stirrer may not run" in outcome.err and variable in outcome.err


def test_a_command_of_a_package_that_is_opted_in_runs(run, brought, monkeypatch):
    monkeypatch.setenv("DATAFLEX_LOAD_PLUGINS", "Dataflex_Stirrer")
    assert run("stir", "run.yaml").code == 0 and brought == [["run.yaml"]]


def test_an_unknown_command_is_a_usage_error(run, brought):
    assert run("stirr").code == 2


def test_debug_is_taken_off_the_arguments_of_a_packages_command(run, brought, monkeypatch):
    monkeypatch.setenv("DATAFLEX_DEBUG", "0")
    assert run("stir", "run.yaml", "--debug", "-x", "--", "--debug").code == 0
    assert brought == [["run.yaml", "-x", "--", "--debug"]] and os.environ["DATAFLEX_DEBUG"] == "1"


def test_an_error_of_a_packages_command_is_a_sentence_that_names_who_brought_it(run, brought, monkeypatch):
    def fail(arguments):
        raise LookupError("no spoon")

    monkeypatch.setattr(sys.modules["stirrer"], "main", fail)
    outcome = run("stir")
    assert outcome.code == 2
    assert outcome.err == "Error: command 'stir' of dataflex-stirrer failed: LookupError: no spoon.\n"
