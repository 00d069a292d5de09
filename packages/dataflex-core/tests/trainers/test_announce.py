"""What the terminal shows of a decision."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from dataflex.decisions import Decision
from dataflex.spec import Kind
from dataflex.trainers.recording.announce import announce

SELECTION = {"pool": 2000, "selected": 40, "distinct": 38, "overlap": 0.25}
MIXTURE = {
    "domains": ["web", "code"],
    "proportions": [0.75, 0.25],
    "realised_samples": [0.7, 0.3],
    "epochs": [1.5, 0.25],
    "domain_losses": [2.0, None],
}


def decision(kind, metrics, scores=()):
    return Decision(
        step=20,
        stage=1,
        kind=kind,
        component="mine",
        dist="d",
        version="1",
        params={},
        seconds=1.25,
        seed=3,
        metrics=metrics,
        scores=dict(scores),
    )


def shown(record, *, terminal=True):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    announce(record, "mine chose 40 samples", console)
    return console.file.getvalue()


@pytest.fixture
def logger(caplog):
    logger = logging.getLogger("dataflex")
    logger.setLevel(logging.INFO)
    return caplog


def test_a_terminal_gets_a_table_of_the_selection_and_no_line(logger):
    text = shown(decision(Kind.SELECTOR, SELECTION, {"mean": 2.5, "nan": 3}))
    for part in ("Step 20: selector mine, 1.2 s", "2,000", "38", "25.0%", "2.5", "not scored"):
        assert part in text
    assert logger.messages == []


def test_a_terminal_gets_a_row_for_each_domain(logger):
    lines = shown(decision(Kind.MIXER, MIXTURE)).splitlines()
    (web,) = [line.split() for line in lines if " web " in line]
    (code,) = [line.split() for line in lines if " code " in line]
    assert [cell for cell in web if cell != "│"] == ["web", "75.0%", "70.0%", "1.500", "2.000"]
    assert [cell for cell in code if cell != "│"] == ["code", "25.0%", "30.0%", "0.250"]  # no loss is known


def test_a_file_gets_one_line(logger):
    assert shown(decision(Kind.SELECTOR, SELECTION), terminal=False) == ""
    assert logger.messages == ["step 20: mine chose 40 samples, in 1.2 s"]


def test_quiet_shows_nothing(logger):
    logging.getLogger("dataflex").setLevel(logging.WARNING)
    assert shown(decision(Kind.SELECTOR, SELECTION)) == "" and logger.messages == []


def test_verbose_shows_every_number_in_a_line(logger):
    logging.getLogger("dataflex").setLevel(logging.DEBUG)
    shown(decision(Kind.SELECTOR, SELECTION))
    assert logger.messages == [f"step 20: metrics {SELECTION}"]
