"""``dataflex report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataflex.console import stderr, stdout


def run_report(runs: Sequence[Path], out: Path, png: Path | None) -> None:
    """Write the report of runs and say where it is.

    Args:
        runs: Output directories.
        out: The HTML file.
        png: Folder for PNG files, if they are wanted.
    """
    from dataflex.report.page import write_report

    with stderr.status("Writing the report"):
        written = write_report(runs, out, png)
    stdout.print(f"Report: {written[0]}", soft_wrap=True, markup=False)
    if png is not None:
        stdout.print(f"Plots: {len(written) - 1} PNG files in {png}", soft_wrap=True, markup=False)
