"""The one pair of consoles everything is printed with, and the set-up of DataFlex's logger."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from dataflex.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

VERBOSITY = "DATAFLEX_VERBOSITY"
"""Environment variable that tells ranks how much to show: ``quiet`` or ``verbose``."""

SAID = "DATAFLEX_SAID"
"""Environment variable for ranks: the command that started them has said what its checks warn of."""

stdout = Console(highlight=False)
"""For results: tables and JSON."""

stderr = Console(stderr=True, highlight=False)
"""For everything said along the way: errors, warnings, progress."""


def replace_unencodable() -> None:
    """Let no letter end a command: what standard output or error cannot encode is written by its code point.

    What is printed comes from users and packages, and a log on a build server or a console may know ASCII only. The
    handlers of LlamaFactory and transformers write to the same streams. Called once, as a command begins.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") not in ("utf8", "mbcs") and is_to_say(os.environ):
        stderr.print(
            f"Warning: Python takes file names for {encoding} here, so a file or folder with other letters in its name "
            "is not found. Set PYTHONUTF8=1.",
            style="yellow",
            soft_wrap=True,
        )


def print_json(data: Any) -> None:
    """Print ``data`` as JSON, in whatever encoding: letters are escaped, as JSON has it, unless it is Unicode."""
    unicode = (stdout.encoding or "").lower().startswith("utf")
    stdout.print_json(json.dumps(data, default=str), ensure_ascii=not unicode)


def print_error(message: str) -> None:
    """Print an error in red, whole: no line is broken and no bracket is taken for markup."""
    stderr.print(Text.assemble(("Error: ", "bold red"), (message, "red")), soft_wrap=True)


def print_traceback(text: str) -> None:
    """Print a formatted traceback as it is."""
    stderr.print(Text(text.rstrip()), soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table without cutting a cell.

    A terminal gets its own width, or what the ``no_wrap`` columns need if that is more. A file or pipe gets one line
    a row, however long.
    """
    from rich.measure import Measurement

    unlimited = stdout.options.update(width=100_000)
    need = Measurement.get(stdout, unlimited, table)
    table.width = max(need.minimum, min(need.maximum, stdout.width)) if stdout.is_terminal else need.maximum
    stdout.print(table, crop=False)


def configure_logging(rank: int = 0) -> None:
    """Send the logger ``dataflex`` to standard error; calling it again changes the level only.

    Args:
        rank: Index of this process. Rank 0 shows INFO unless :func:`set_verbosity` said otherwise, all others WARNING.
    """
    logger = logging.getLogger("dataflex")
    logger.setLevel(_LEVELS.get(os.environ.get(VERBOSITY, ""), logging.INFO) if rank == 0 else logging.WARNING)
    if any(handler.get_name() == _HANDLER for handler in logger.handlers):
        return
    handler: logging.Handler
    if stderr.is_terminal:
        from rich.logging import RichHandler

        handler = RichHandler(console=stderr, show_path=False)
    else:
        handler = _PlainHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.set_name(_HANDLER)
    logger.addHandler(handler)


def is_to_say(environ: Mapping[str, str]) -> bool:
    """Whether this process says what all ranks find alike: rank 0, unless the command that started it has said it."""
    return environ.get("RANK", "0") == "0" and SAID not in environ


@contextlib.contextmanager
def said_once(environ: Mapping[str, str]) -> Iterator[None]:
    """Show warnings of what all ranks do alike in one process; errors are shown in each.

    Args:
        environ: The environment.
    """
    logger = logging.getLogger("dataflex")
    level = logger.level
    if not is_to_say(environ):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Show less or more, here and in the ranks this process starts.

    ``quiet`` also hides progress bars and what LlamaFactory and transformers say along the way; the Trainer's own log
    lines stay. To be called before those are imported.

    Raises:
        ConfigError: if both are asked for.
    """
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose were both given. Use one of them.")
    if quiet:
        os.environ[VERBOSITY] = "quiet"
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
    elif verbose:
        os.environ[VERBOSITY] = "verbose"


_HANDLER = "dataflex-console"
_QUIET = {"TQDM_DISABLE": "1", "LLAMAFACTORY_VERBOSITY": "WARN", "TRANSFORMERS_VERBOSITY": "warning"}
_LEVELS = {"quiet": logging.WARNING, "verbose": logging.DEBUG}


class _PlainHandler(logging.Handler):
    """One line a message, for log files: rich's own handler would break long paths to fit 80 columns."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stderr.print(Text(self.format(record)), soft_wrap=True)
        except Exception:
            self.handleError(record)
