"""Running every check of a component, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.testing.benches import make_bench
from dataflex.testing.check import Check, Result
from dataflex.testing.checks import checks_for
from dataflex.testing.process_state import own_process_state
from dataflex.testing.subject import Subject


def run_check(subject: Subject, check: Check, folder: Path) -> Result:
    """Run one check in an empty folder."""
    with own_process_state():
        return check.run(make_bench(subject, folder))


def run_checks(subject: Subject, folder: Path) -> Iterator[Result]:
    """Run all checks of a component, one after the other.

    Args:
        subject: The component.
        folder: Each check gets an empty folder in it.

    Raises:
        DataFlexError: if the component cannot be found, or its parameters are wrong.
    """
    entry = subject.find()
    for check in checks_for(entry.spec.kind):
        yield run_check(subject, check, folder / check.name)


def check_named(name: str, known: tuple[Check, ...]) -> Check:
    """The check of that name.

    Raises:
        ConfigError: with the nearest name, if there is none.
    """
    for check in known:
        if check.name == name:
            return check
    names = [check.name for check in known]
    raise ConfigError(f"there is no check {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}.")
