"""A file of lines that somebody else writes: each line is read once, and one that is half written is waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from dataflex.errors import ConfigError

Record = TypeVar("Record")
_COMPARED = 4096
"""Bytes before the place where reading goes on that have to be those of before."""


class Tail(Generic[Record]):
    """The records of such a file.

    A file that was cut or replaced, as by a run that goes back to a checkpoint, is read anew. That is told by its
    content: numbers of files mean nothing on some mounted folders.

    Args:
        path: The file; it need not be there yet.
        parse: From a line to a record.
        what: What a line should be, for the message.

    Attributes:
        path: The file.
        records: Those of the lines so far.
    """

    def __init__(self, path: Path, parse: Callable[[str], Record], what: str) -> None:
        self.path, self._parse, self._what = path, parse, what
        self._forget()

    def _forget(self) -> None:
        self.records: list[Record] = []
        self._offset, self._before = 0, b""

    def read(self) -> bool:
        """Read what has been added.

        Returns:
            Whether the file was read anew, so that records of before may be gone.

        Raises:
            ConfigError: for a damaged line, with what is wrong in it.
            OSError: if it cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            had = self._offset > 0
            self._forget()
            return had
        with file:
            anew = not self._goes_on(file)
            if anew:
                self._forget()
            file.seek(self._offset)
            added = file.read()
        added = added[: added.rfind(b"\n") + 1]
        for line in added.split(b"\n")[:-1]:
            self.records.append(self._record(line))
        self._offset += len(added)
        self._before = (self._before + added)[-_COMPARED:]
        return anew

    def _goes_on(self, file: BinaryIO) -> bool:
        file.seek(self._offset - len(self._before))
        return file.read(len(self._before)) == self._before

    def _record(self, line: bytes) -> Record:
        try:
            return self._parse(line.decode("utf-8"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            number = len(self.records) + 1
            self._forget()  # the next read begins anew: the file may have been repaired
            raise ConfigError(
                f"{self.path}, line {number} is not {self._what} ({error}). Move the file away."
            ) from error
