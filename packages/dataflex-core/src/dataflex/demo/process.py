"""The runs of the demo as processes: their environment, and the end of the log of one that failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

_TAIL = 25
_DEFAULTS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for the runs: no downloads, no greedy processes. What the user has set stays.

    Args:
        environ: The demo's own environment.
    """
    return {name: value for name, value in _DEFAULTS.items() if name not in environ}


def tail(log: Path, lines: int = _TAIL) -> str:
    """The last lines of a log, of each progress bar only what it showed last."""
    with log.open(encoding="utf-8", errors="replace", newline="\n") as file:
        last = deque((line.rstrip().rpartition("\r")[2] for line in file if line.strip()), maxlen=lines)
    return "\n".join(last)
