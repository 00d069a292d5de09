"""``dataflex new-component``."""

from __future__ import annotations

import shlex
from pathlib import Path

from dataflex.console import stdout
from dataflex.scaffold.names import Names
from dataflex.scaffold.package import write_package
from dataflex.spec import Kind


def new_component(kind: Kind, name: str, out: Path) -> None:
    """Write a complete package, and print its files and the next commands.

    Args:
        kind: Kind of the component.
        name: Its name.
        out: The folder to put the package's folder in.

    Raises:
        ConfigError: for an impossible name, or a folder that exists.
    """
    names = Names(kind, name)
    folder = out / names.dist
    for path in write_package(names, out):
        _say(str(folder / path))
    _say("")
    _say("Next:")
    _say(f"  cd {shlex.quote(str(folder))} && pip install -e '.[test]'")
    _say(f"  dataflex check-component {names.name} --kind {kind}")
    _say("  python -m dataflex.testing.tiny tiny && dataflex train examples/run.yaml")


def _say(line: str) -> None:
    stdout.print(line, markup=False, soft_wrap=True)
