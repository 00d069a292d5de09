"""``dataflex/error.log`` of an output directory: the last calls before another library failed."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dataflex import __version__
from dataflex.errors import DataFlexError, OneRankError
from dataflex.failures.debugging import debugging
from dataflex.failures.foreign import foreign_cause
from dataflex.failures.saying import is_out_of_memory, said
from dataflex.record import files

NAME = "error.log"
FRAMES = 5
"""Calls that are kept of each error, the innermost."""

_PATH = "_dataflex_error_log"


@contextlib.contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Write what another library's error shows of its calls into ``folder``, and pass the error on.

    The file is replaced at each failure. Ranks other than the first have one of their own, with the rank in its name.
    With ``--debug`` the whole traceback is shown instead, and nothing is written.

    Args:
        folder: DataFlex's folder in the output directory. Where it cannot be written to, there is no log.
    """
    try:
        yield
    except Exception as error:
        cause = foreign_cause(error) or (error if is_out_of_memory(error) else None)
        if cause is not None and _is_mine(error, os.environ) and not debugging(os.environ):
            rank = os.environ.get("RANK", "0")
            path = folder / (NAME if rank == "0" else f"error.rank{rank}.log")
            with contextlib.suppress(OSError):
                files.replace_text(path, _log(cause))
                setattr(error, _PATH, path)
        raise


def path_of(error: BaseException) -> Path | None:
    """Where the calls of an error were written; ``None`` if they were not."""
    path = getattr(error, _PATH, None)
    return path if isinstance(path, Path) else None


def _is_mine(error: Exception, environ: Mapping[str, str]) -> bool:
    """Whether this rank is one that says the error: of those that fail alike, the first of a node does."""
    alike = isinstance(error, DataFlexError) and not isinstance(error, OneRankError)
    return not alike or environ.get("LOCAL_RANK", "0") == "0"


def _log(error: BaseException) -> str:
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    parts = [f"{now}, dataflex-core {__version__}, the last {FRAMES} calls of each error\n"]
    chain = _chain(error)
    for place, link in enumerate(chain):
        follows = "" if place == 0 else "\nwhich led to\n"
        parts.append(f"{follows}\n{''.join(traceback.format_tb(link.__traceback__, limit=-FRAMES))}{said(link)}\n")
    return "".join(parts)


def _chain(error: BaseException) -> list[BaseException]:
    """An error and its causes, the first one first."""
    links: list[BaseException] = []
    while error not in links:
        links.append(error)
        if error.__cause__ is None:
            break
        error = error.__cause__
    return links[::-1]
