"""How long ``dataflex list-components`` takes, beside an empty Python.

Both commands run alternately in fresh processes, so that a busy machine slows both. The figure to look at is the
median; ``--write`` keeps all of them in ``benchmarks/results/list_components.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "dataflex list-components": [str(Path(sys.executable).with_name("dataflex")), "list-components"],
}
RESULT = Path(__file__).parent / "results" / "list_components.json"


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one run of a command."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="runs of each command, after one that is not counted")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(options.runs + 1):
        for name, command in COMMANDS.items():
            spent = seconds(command)
            if run:  # the first one fills the file cache
                times[name].append(spent)
    print(f"{'command':<26}{'median':>9}{'least':>9}{'most':>9}   seconds, {options.runs} runs each")
    for name, spent_by_run in times.items():
        median = statistics.median(spent_by_run)
        print(f"{name:<26}{median:>9.3f}{min(spent_by_run):>9.3f}{max(spent_by_run):>9.3f}")
    if options.write:
        facts = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({**facts, "seconds": times}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
