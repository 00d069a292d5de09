"""One check of the conformance kit, and what came of running it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataflex.testing.bench import Bench

_MEND = "Mend:"


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class CheckFailed(AssertionError):
    """The component does not do what the check proves; the message says what it did instead."""


class NotApplicable(Exception):
    """The check cannot say anything about this component; the message says why."""


@dataclass(frozen=True)
class Check:
    """A named promise of a component.

    Attributes:
        function: Raises :class:`CheckFailed` for a broken promise. Its docstring says what is proved and, after
            ``Mend:``, what to do about a failure.
    """

    function: Callable[[Bench], None]

    @property
    def name(self) -> str:
        """Name of the check, as ``expected_failures`` takes it."""
        return self.function.__name__

    @property
    def proves(self) -> str:
        """What holds for a component that passes, in one sentence."""
        return _paragraphs(self.function)[0]

    @property
    def mend(self) -> str:
        """What to do about a failure."""
        return " ".join(_paragraphs(self.function)[1:]).removeprefix(_MEND).strip()

    def run(self, bench: Bench) -> Result:
        """Run it; every exception is a failure, except :class:`NotApplicable`."""
        try:
            self.function(bench)
        except NotApplicable as reason:
            return Result(self, Status.SKIPPED, str(reason))
        except CheckFailed as failure:
            return Result(self, Status.FAILED, str(failure))
        except Exception as error:
            return Result(self, Status.FAILED, f"{type(error).__name__}: {error}")
        return Result(self, Status.PASSED)


@dataclass(frozen=True)
class Result:
    """What came of a check.

    Attributes:
        check: The check.
        status: How it ended.
        message: What went wrong, or why it does not apply; ``""`` if it passed.
    """

    check: Check
    status: Status
    message: str = ""

    @property
    def advice(self) -> str:
        """What went wrong, what was to be proved and how to fix it."""
        return f"{self.check.name}: {self.message}\nIt proves: {self.check.proves}\nMend: {self.check.mend}"


def _paragraphs(function: Callable[..., object]) -> list[str]:
    text = inspect.getdoc(function) or ""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
