"""The command ``dataflex doremi``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dataflex.paths import user_path
from dataflex.phases.project_file import read_project
from dataflex.phases.shown import show
from dataflex_mixers_doremi.checks import check_phases
from dataflex_mixers_doremi.phases import SECTION, plan_phases
from dataflex_mixers_doremi.run import run_phases

app = typer.Typer(name="dataflex doremi", add_completion=False, pretty_exceptions_enable=False)


def main(argv: Sequence[str]) -> None:
    """Run the command.

    Args:
        argv: Arguments after ``doremi``.

    Raises:
        SystemExit: with the exit code.
    """
    app(args=list(argv), prog_name="dataflex doremi")


@app.command()
def doremi(
    run_file: Annotated[Path, typer.Argument(metavar="RUN_FILE", parser=user_path, help="YAML file of the project.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Keys that replace those of the file.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of reference and proxy before the final run.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print the phases, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
    plugin: Annotated[
        list[str] | None, typer.Option("-p", "--plugin", metavar="FILE|no:DIST", help="As for `dataflex train`.")
    ] = None,
) -> None:
    """Train reference, proxy and final model of DoReMi from one run file.

    The file is a LlamaFactory one; `doremi: {reference: ..., proxy: ..., final: ...}` holds what one phase has of its
    own, such as a smaller model for the first two. The same command goes on after an interruption; complete phases are
    skipped.
    """
    keys = read_project(run_file, list(overrides or ()), SECTION)
    phases = plan_phases(keys, rounds, run_file)
    check_phases(phases, list(plugin or ()))
    if dry_run:
        show(phases, as_json=as_json)
    else:
        run_phases(phases, Path(str(keys["output_dir"])), list(plugin or ()))
