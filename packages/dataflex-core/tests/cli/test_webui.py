"""``dataflex webui`` before its page is there: where it listens, and what it finds wrong with a run."""

from __future__ import annotations

import os

import pytest

from dataflex.cli import webui


@pytest.fixture
def opened(monkeypatch):
    """Sections that LlamaBoard would have been opened with."""
    found = []
    monkeypatch.setattr(webui, "_load", lambda: (found.append, lambda *given: given))
    monkeypatch.delenv(webui.ADDRESS, raising=False)
    return found


def test_it_listens_to_this_machine_alone_and_says_so(run, opened, monkeypatch):
    outcome = run("webui", "-p", "no:nothing")
    assert outcome.code == 0 and os.environ[webui.ADDRESS] == "127.0.0.1"
    assert "127.0.0.1" in outcome.out and "GRADIO_SERVER_NAME=0.0.0.0 opens it" in outcome.out
    plugins, check, values = opened[0]
    assert plugins.plugins and check is webui.problems_of and values == ["no:nothing"]
    monkeypatch.setenv(webui.ADDRESS, "0.0.0.0")
    assert run("webui").out == "" and os.environ[webui.ADDRESS] == "0.0.0.0"


@pytest.mark.parametrize("value", ["1", "true", "Y"])  # as LlamaFactory takes it
def test_a_shared_page_is_not_said_to_be_for_this_machine_alone(run, opened, monkeypatch, value):
    monkeypatch.setenv("GRADIO_SHARE", value)
    outcome = run("webui")
    assert "open to all who know its link" in outcome.out and "alone" not in outcome.out


def test_without_gradio_it_says_what_to_install(run, opened, monkeypatch):
    monkeypatch.setattr("dataflex.bridge.board_seams.gradio_misfit", lambda: "gradio is not installed")
    outcome = run("webui")
    assert outcome.code == 2 and opened == []
    assert "pip install 'gradio==5.*'" in outcome.err and webui.ADDRESS not in os.environ


def test_what_is_wrong_with_a_run_is_what_the_command_says(tmp_path, monkeypatch):
    from dataflex.errors import ConfigError

    asked = []

    def examine(run, plugins, *, starts):
        asked.append((run.path.name, dict(run.ours), starts))
        raise ConfigError("one thing.\nanother thing.")

    monkeypatch.setattr(webui, "examine", examine)
    assert webui.problems_of({"train_type": "dynamic_select", "stage": "sft"}) == ["one thing.", "another thing."]
    assert asked == [("dataflex_run.yaml", {"train_type": "dynamic_select"}, False)]
