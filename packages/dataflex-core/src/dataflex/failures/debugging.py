"""Whether tracebacks are shown: ``--debug``, which reaches ranks and phases through the environment."""

from __future__ import annotations

from collections.abc import Mapping

DEBUG = "DATAFLEX_DEBUG"
"""Environment variable: set to 1, a traceback follows each error."""

OPTION = "--debug"


def debugging(environ: Mapping[str, str]) -> bool:
    """Whether a traceback is to follow each error."""
    return environ.get(DEBUG, "0").lower() in ("1", "true", "y", "yes", "on")
