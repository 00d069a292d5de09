"""``dataflex report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataflex.console import stderr, stdout
from dataflex.errors import ConfigError


def run_report(runs: Sequence[Path], out: Path, png: Path | None) -> None:
    """Write the report of runs and say where it is.

    Args:
        runs: Output directories, or the folder of a study.
        out: The HTML file.
        png: Folder for PNG files, if they are wanted.
    """
    from dataflex.report.page import write_report
    from dataflex.study.page import is_study, write_page

    studies = [folder for folder in runs if is_study(folder)]
    if studies and len(runs) > 1:
        raise ConfigError(f"{studies[0]} is the folder of a study: name it alone. Its page links to its runs' reports.")
    if studies:
        with stderr.status("Writing the study's page"):
            written = write_page(studies[0], out, png)
        _say(written, written[1].parent if len(written) > 1 else None)
        return
    with stderr.status("Writing the report"):
        written = write_report(runs, out, png)
    _say(written, png)


def _say(written: Sequence[Path], png: Path | None) -> None:
    stdout.print(f"Report: {written[0]}", soft_wrap=True, markup=False)
    if png is not None:
        stdout.print(f"Plots: {len(written) - 1} PNG files in {png}", soft_wrap=True, markup=False)
