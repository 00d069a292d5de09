"""Where log lines go."""

from __future__ import annotations

import logging

import pytest

from dataflex.console import configure_logging


@pytest.fixture
def logger():
    logger = logging.getLogger("dataflex")
    logger.handlers[:] = [handler for handler in logger.handlers if handler.get_name() != "dataflex-console"]
    return logger


def test_rank_0_tells_what_it_does_and_the_others_only_what_is_wrong(logger, capsys):
    configure_logging(0)
    logger.info("first")
    configure_logging(1)
    logger.info("second")
    logger.warning("third")
    written = capsys.readouterr().err
    assert ("INFO first" in written, "second" in written, "WARNING third" in written) == (True, False, True)


def test_configuring_twice_prints_a_message_once(logger, capsys):
    configure_logging()
    configure_logging()
    logger.info("once [red]only[/red] " + "x" * 300)
    written = capsys.readouterr().err
    assert written.count("once [red]only[/red] " + "x" * 300 + "\n") == 1
