"""The command ``dataflex study``, as the parser knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataflex.cli.parameters import PluginValues, path_argument, path_option, plugin_values
from dataflex.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(study)


def study(
    ctx: typer.Context,
    study_file: Annotated[
        Path | None, path_argument(metavar="STUDY_FILE", help="YAML or JSON file of the study.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Keys that replace those of the file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs with their files, and stop.")] = False,
    show: Annotated[
        Path | None, path_option("--list", metavar="DIR", help="Print what a study's folder holds, without training.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Runs at the same time; 1 by default.")
    ] = None,
    gpus_per_run: Annotated[
        int | None, typer.Option("--gpus-per-run", metavar="N", help="GPUs of each run; more than 1 start torchrun.")
    ] = None,
    on: Annotated[str, typer.Option("--on", metavar="here|ray", help="Where the runs run.")] = "here",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed runs again.")] = False,
    restart: Annotated[
        list[str] | None, typer.Option("--restart", metavar="ARM", help="Train an arm anew. May be repeated.")
    ] = None,
    extend_baseline: Annotated[
        bool,
        typer.Option(
            "--extend-baseline", help="Train the next length of the baseline where an arm is dearer than all."
        ),
    ] = False,
    plugin: PluginValues = None,
) -> None:
    """Train several arms with several seeds, and say which of them pays for itself: one page, honest statistics.

    `dataflex study study.yaml --jobs 2`

    The file names a run file as `base`, the `arms` that differ from it, the `metric`, and the `seeds`. Each run is a
    process of its own; the same command goes on where a killed one stopped. The exit code is 1 if runs failed.
    """
    from dataflex.cli.study import StudyOptions, list_runs, run_study

    if show is not None:
        list_runs(show)
        return
    if study_file is None:
        raise ConfigError("name a study file, or the folder of a study with --list.")
    options = StudyOptions(
        jobs=jobs,
        gpus_per_run=gpus_per_run,
        on=on,
        retry_failed=retry_failed,
        restart=list(restart or ()),
        extend_baseline=extend_baseline,
        dry_run=dry_run,
    )
    if code := run_study(study_file, list(overrides or ()), plugin_values(ctx, plugin), options):
        raise typer.Exit(code)
