"""How long the commands take that only look, beside a Python that does nothing.

All commands run alternately in fresh processes, so that a busy machine slows each of them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import figures

DATAFLEX = str(Path(sys.executable).with_name("dataflex"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "dataflex list-components": [DATAFLEX, "list-components"],
    "dataflex --help": [DATAFLEX, "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one run of a command."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=15, help="runs of each command, after one that is not counted")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(options.runs + 1):
        for name, command in COMMANDS.items():
            spent = seconds(command)
            if run:  # the first one fills the file cache
                times[name].append(spent)
    found = {f"{name}, seconds": figures.figure(spent) for name, spent in times.items()}
    figures.show(found)
    if options.write:
        figures.keep("startup", found)


if __name__ == "__main__":
    main()
