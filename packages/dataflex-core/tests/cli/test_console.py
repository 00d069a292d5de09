"""Where log lines go."""

from __future__ import annotations

import logging
import os

import pytest

from dataflex.console import SAID, VERBOSITY, configure_logging, said_once, set_verbosity
from dataflex.errors import ConfigError


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


@pytest.mark.parametrize(("asked", "level"), [("quiet", logging.WARNING), ("verbose", logging.DEBUG)])
def test_how_much_is_shown_reaches_the_ranks_through_the_environment(logger, monkeypatch, asked, level):
    for name in (VERBOSITY, "TQDM_DISABLE", "LLAMAFACTORY_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    set_verbosity(quiet=asked == "quiet", verbose=asked == "verbose")
    configure_logging(0)
    assert logger.level == level and os.environ[VERBOSITY] == asked
    assert ("TQDM_DISABLE" in os.environ) is (asked == "quiet")


def test_quiet_and_verbose_at_once_are_refused():
    with pytest.raises(ConfigError, match="--quiet and --verbose were both given"):
        set_verbosity(quiet=True, verbose=True)


@pytest.mark.parametrize(
    ("environ", "said"),
    [({}, True), ({"RANK": "0"}, True), ({"RANK": "1"}, False), ({"RANK": "0", SAID: "1"}, False)],
    ids=["no rank", "rank 0", "rank 1", "told by the command"],
)
def test_what_all_ranks_would_say_is_said_by_one_process(logger, capsys, environ, said):
    configure_logging(0)
    with said_once(environ):
        logger.warning("alike")
        logger.error("wrong")
    logger.warning("later")
    written = capsys.readouterr().err
    assert ("alike" in written) is said and "wrong" in written and "later" in written
