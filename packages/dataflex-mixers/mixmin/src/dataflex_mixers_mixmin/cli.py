"""The command ``dataflex mixmin``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dataflex.paths import user_path
from dataflex.phases.checks import check_phases
from dataflex.phases.conduct import How
from dataflex.phases.project_file import read_project
from dataflex.phases.shown import show
from dataflex.phases.where import LOCAL, where
from dataflex_mixers_mixmin.plan import SECTION, plan_project
from dataflex_mixers_mixmin.project import run_project

app = typer.Typer(name="dataflex mixmin", add_completion=False, pretty_exceptions_enable=False)


def main(argv: Sequence[str]) -> None:
    """Run the command.

    Args:
        argv: Arguments after ``mixmin``.

    Raises:
        SystemExit: with the exit code.
    """
    app(args=list(argv), prog_name="dataflex mixmin")


@app.command()
def mixmin(
    run_file: Annotated[Path, typer.Argument(metavar="RUN_FILE", parser=user_path, help="YAML file of the project.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Keys that replace those of the file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print the phases, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Small runs at the same time; 1 by default.")
    ] = None,
    gpus_per_run: Annotated[
        int | None, typer.Option("--gpus-per-run", metavar="N", help="GPUs of each run; more than 1 start torchrun.")
    ] = None,
    on: Annotated[str, typer.Option("--on", metavar="here|ray", help="Where the runs run.")] = "here",
    plugin: Annotated[
        list[str] | None, typer.Option("-p", "--plugin", metavar="FILE|no:DIST", help="As for `dataflex train`.")
    ] = None,
) -> None:
    """Train one small model a domain, find the mixture of them that a target set is likeliest under, and train on it.

    The file is a LlamaFactory one; `mixmin: {models: ..., target: ..., final: ...}` holds the rest. The same command
    goes on after an interruption; complete runs are skipped.
    """
    plan = plan_project(read_project(run_file, list(overrides or ()), SECTION), run_file)
    check_phases(plan.phases, list(plugin or ()), command=SECTION)
    if dry_run and plan.phases:
        show(plan.phases, as_json=as_json)
    if dry_run:
        return
    place = where(on, plan.root, jobs=jobs, gpus_per_run=gpus_per_run)
    how = How(
        command=SECTION,
        plugins=list(plugin or ()),
        jobs=place.jobs,
        gpus=place.gpus,
        executor=None if on == LOCAL else place.executor,
    )
    run_project(plan, how)
