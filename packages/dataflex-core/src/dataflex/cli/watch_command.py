"""The command ``dataflex watch``, as the parser knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataflex.cli.parameters import path_argument, path_option


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(watch)


def watch(
    folder: Annotated[
        Path, path_argument(metavar="OUTPUT_DIR", help="Output directory of a run, or the folder of a study.")
    ],
    once: Annotated[bool, typer.Option("--once", help="Write the page into a file, as the run is now.")] = False,
    out: Annotated[Path | None, path_option("--out", metavar="FILE", help="That file; else watch.html.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Show it in this terminal; with --once, one look.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    port: Annotated[int, typer.Option("--port", metavar="N", help="Port of the page; 0: one that is free.")] = 0,
) -> None:
    """Watch a run that goes on: decisions, losses, samples, the next boundary and about when it comes.

    `dataflex watch saves/run`

    A page at an address of this machine alone follows the run, through a kill and a resume too. Files are only read:
    the run may be another user's or lie on a mounted folder. Without a screen, forward the port or use `--text`.
    """
    from dataflex.cli.watch import run_watch

    run_watch(folder, once=once, out=out, text=text, browser=not no_browser, port=port)
