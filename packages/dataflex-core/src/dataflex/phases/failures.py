"""Why a run failed, in one line: what it said last."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path

_ERROR = "Error: "
_LAST = 200  # lines that are looked at
_LONGEST = 600


def why_it_failed(log: Path, code: int) -> str:
    """The sentence of an error at the end of a log, or its last line; with the exit code and where the log is.

    Args:
        log: What the process printed.
        code: Its exit code; below 0 the number of the signal that ended it.
    """
    how = f"exit code {code}" if code >= 0 else f"ended by {_signal(-code)}"
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            lines = deque((line.rstrip().rpartition("\r")[2] for line in file if line.strip()), maxlen=_LAST)
    except OSError:
        lines = deque()
    said = next((line.partition(_ERROR)[2] for line in reversed(lines) if line.startswith(_ERROR)), "")
    said = said or (lines[-1] if lines else "it printed nothing")
    cut = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
    return f"{cut} ({how}; log: {log})"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
