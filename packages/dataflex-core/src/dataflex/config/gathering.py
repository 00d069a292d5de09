"""Telling all that is wrong with a run file at once, in place of the first thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dataflex.errors import ConfigError, DataFlexError
from dataflex.runs import Problem


class Gathered:
    """What was refused, in order.

    Attributes:
        errors: The refusals.
    """

    def __init__(self) -> None:
        self.errors: list[DataFlexError] = []

    def __bool__(self) -> bool:
        return bool(self.errors)

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Keep what the body refuses, and go on after it."""
        try:
            yield
        except DataFlexError as error:
            self.errors.append(error)

    def add(self, problems: Iterable[Problem]) -> None:
        """Keep problems, each as one refusal."""
        self.errors += [ConfigError(f"{problem.message} {problem.fix}".rstrip()) for problem in problems]

    def refuse(self) -> None:
        """Raise what was kept; do nothing if that is nothing.

        Raises:
            DataFlexError: the one refusal as it was raised, or all of them in one, a line each.
        """
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise self.errors[0]
        types = {type(error) for error in self.errors}
        lines = list(dict.fromkeys(str(error) for error in self.errors))
        raise (types.pop() if len(types) == 1 else ConfigError)("\n".join(lines)) from self.errors[0]
