"""``dataflex check-component``: the conformance kit for the shell."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflex.config.reading import naming, read_dotlist
from dataflex.console import print_json, print_table, stderr, stdout
from dataflex.errors import ConfigError
from dataflex.spec import Kind

if TYPE_CHECKING:
    from dataflex.testing.check import Result

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def check_component(
    name: str, params: Sequence[str], plugin_values: Sequence[str], kind: Kind | None, as_json: bool
) -> bool:
    """Run every check of a component and print what came of them.

    Args:
        name: Its name, or ``dist/name``.
        params: ``key=value`` items.
        plugin_values: The values of ``-p``.
        kind: Its kind, when the name is used by several.
        as_json: Print a JSON list instead of a table.

    Returns:
        Whether no check failed.

    Raises:
        DataFlexError: if it cannot be found, or a parameter is wrong.
    """
    from dataflex.testing.runner import run_checks
    from dataflex.testing.subject import Subject, bind_values

    subject = Subject(name=name, kind=kind, params=_values(params), plugins=tuple(plugin_values))
    bind_values(subject.find(), subject.values(Path()))
    with tempfile.TemporaryDirectory(prefix="dataflex-check-") as folder, _quiet():
        results = list(_shown(run_checks(subject, Path(folder)), quiet=as_json))
    if as_json:
        print_json([_row(result) for result in results])
    else:
        _print(results)
    return all(result.status != "failed" for result in results)


def _values(params: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    for item in params:
        if not item.partition("=")[0] or "=" not in item:
            raise ConfigError(f"--param {item}: write --param key=value.")
    with naming(f"--param {' '.join(params)}"):
        values: Any = OmegaConf.to_container(read_dotlist(params)[0], resolve=True)
    return {str(key): value for key, value in values.items()}


def _shown(results: Iterator[Result], *, quiet: bool) -> Iterator[Result]:
    """Say on a terminal which check is done: the one on two ranks takes a while."""
    if quiet or not stderr.is_terminal:
        yield from results
        return
    with stderr.status("checking") as status:
        for result in results:
            status.update(f"{result.check.name} {result.status}")
            yield result


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the component logs: many checks provoke warnings on purpose."""
    logger = logging.getLogger("dataflex")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print(results: Sequence[Result]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("status", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("what it proves, or why it failed", overflow="fold", min_width=32)
    for result in results:
        status = Text(result.status, style=_STYLES[result.status])
        table.add_row(status, Text(result.check.name), Text(result.message or result.check.proves))
    print_table(table)
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        stdout.print()
        stdout.print(Text(result.advice), soft_wrap=True)
    counts = ", ".join(
        f"{sum(result.status == status for result in results)} {status}"
        for status in _STYLES
        if any(result.status == status for result in results)
    )
    stdout.print()
    stdout.print(counts)


def _row(result: Result) -> dict[str, str]:
    return {
        "check": result.check.name,
        "status": result.status,
        "message": result.message,
        "proves": result.check.proves,
        "mend": result.check.mend,
    }
