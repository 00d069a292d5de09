"""The kit as a pytest decorator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataflex.spec import Kind
from dataflex.testing.check import Check, Status
from dataflex.testing.checks import checks_for
from dataflex.testing.runner import check_named, run_check
from dataflex.testing.subject import Params, Subject


@dataclass(frozen=True)
class ReadyCheck:
    """A check that a test calls with ``tmp_path``.

    Attributes:
        subject: The component.
        check: The check.
    """

    subject: Subject
    check: Check

    def __call__(self, folder: Path) -> None:
        """Run it: passes, fails the test, or skips it where the check says nothing about this component."""
        __tracebackhide__ = True
        result = run_check(self.subject, self.check, folder)
        if result.status is Status.SKIPPED:
            pytest.skip(result.message)
        if result.status is Status.FAILED:
            pytest.fail(result.advice, pytrace=False)


def parametrize_with_checks(
    name: str,
    *,
    kind: Kind | str | None = None,
    params: Params | None = None,
    plugins: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Make one test of each check that a component has to pass.

    Args:
        name: Its name, or ``dist/name``.
        kind: Its kind, where several use the name.
        params: Its parameters, or a function that makes them in an empty folder (for those that name a file).
        plugins: Values of ``-p``: files with the component.
        expected_failures: Reason by name of a check that is known to fail. It is an error if it passes.

    Raises:
        DataFlexError: when the test is collected, if there is no such component or no such check.

    Example:
        >>> @parametrize_with_checks("mine", params={"share": 0.5})
        ... def test_mine_conforms(check, tmp_path):
        ...     check(tmp_path)
    """
    wanted = Subject(name=name, kind=None if kind is None else Kind(kind), params=params or {}, plugins=tuple(plugins))
    found = wanted.find()
    subject = Subject(name=name, kind=found.spec.kind, params=wanted.params, plugins=wanted.plugins)
    known = checks_for(found.spec.kind)
    reasons = {check_named(given, known).name: reason for given, reason in (expected_failures or {}).items()}
    return pytest.mark.parametrize(
        "check",
        [
            pytest.param(
                ReadyCheck(subject, check),
                id=check.name,
                marks=[pytest.mark.xfail(reason=reasons[check.name], strict=True)] if check.name in reasons else [],
            )
            for check in known
        ],
    )
