"""Reads a run again and again: of its files, only what has been added."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError
from dataflex.record.run import FOLDER, Logged, RunInfo, RunRecord
from dataflex.report.read import (
    TRAINER_LOG,
    TRAINER_STATE,
    llamafactorys_log,
    require_drawable,
    run_data,
    steps_done,
    trainers_log,
)
from dataflex.report.run import RunData, Usage
from dataflex.report.usage import UsageCounter
from dataflex.watch.tail import Tail

Marks = dict[str, tuple[int, int]]


class Follower:
    """One output directory.

    Args:
        folder: It.
        name: What the run is called.
        now: A clock of this process, in seconds.

    Attributes:
        info: What runs, as read last.
        log: The log, as read last.
        changed: How many times something new was found.
    """

    def __init__(self, folder: Path, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.name, self._now = folder, name, now
        self.info: RunInfo | None = None
        self.log: Sequence[Logged] = ()
        self.changed = 0
        self._record = RunRecord(folder)
        decisions = DecisionLog(folder)
        self._decisions = Tail(decisions.path, self._decision, "a decision record")
        self._log = Tail(self._record.log_path, Logged.from_json, "an entry of the log")
        self._usage_counter, self._usage = UsageCounter(folder), _NO_USAGE
        self._marks: Marks = {}
        self._since = now()
        self._data: RunData | None = None

    def read(self) -> RunData | None:
        """The run as it is now; ``None`` if nothing has been written yet.

        Raises:
            ConfigError: for a damaged file.
            OSError: for one that cannot be read.
        """
        marks = self._look()
        if marks != self._marks:
            self._data = self._read()
            self.changed, self._marks, self._since = self.changed + 1, marks, self._now()
        return self._data

    @property
    def age(self) -> float:
        """Seconds since something new was found."""
        return self._now() - self._since

    @property
    def begun(self) -> bool:
        """Whether a run has written here, or holds the directory."""
        return bool(self._look()) or (self.folder / FOLDER).is_dir()

    def _look(self) -> Marks:
        """Size and time of each file that a change would change."""
        paths = (self._record.info_path, self._decisions.path, self._log.path, self._record.samples_path)
        found = {}
        for path in (*paths, self.folder / TRAINER_LOG, self.folder / TRAINER_STATE):
            with suppress(OSError):
                stat = path.stat()
                found[str(path)] = (stat.st_size, stat.st_mtime_ns)
        return found

    def _read(self) -> RunData | None:
        before, self.info = self.info, self._record.info()
        anew = [self._decisions.read(), self._log.read()]  # both, whatever the first says
        if any(anew) or self.info != before:
            self._usage_counter.forget()
        decisions = list(self._decisions.records)
        self.log = list(self._log.records) or self._static_log()
        if self.info is None and not decisions and not self.log:
            return None
        with suppress(ConfigError):  # a plan that is being written: the usage of before stands
            self._usage = self._usage_counter.count(self.info, decisions, steps_done(self.log, decisions))
        return run_data(
            self.name, self.folder, self.info, decisions, self.log, samples=self._record.samples(), usage=self._usage
        )

    def _decision(self, line: str) -> Decision:
        decision = Decision.from_json(line)
        require_drawable(self.folder, decision)
        return decision

    def _static_log(self) -> list[Logged]:
        """Of a run without DataFlex's record: LlamaFactory's log while it trains, the Trainer's state at its end."""
        at = self._look()
        line, state = (at.get(str(self.folder / name)) for name in (TRAINER_LOG, TRAINER_STATE))
        if line is not None and (state is None or line[1] > state[1]):
            return llamafactorys_log(self.folder)
        return trainers_log(self.folder)


_NO_USAGE: Usage | None = None
