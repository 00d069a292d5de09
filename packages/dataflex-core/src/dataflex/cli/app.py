"""The commands of ``dataflex``, which is also ``dataflex-cli`` and ``python -m dataflex``.

Only what the parser needs is imported here; each command imports its own module when it runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataflex import __version__
from dataflex.cli import component_commands, passthrough, study_command, watch_command, webui_command
from dataflex.cli.cache import CacheAction
from dataflex.cli.contributed import CommandsOfPackages
from dataflex.cli.parameters import JsonOption, PluginValues, path_argument, path_option, plugin_values
from dataflex.console import (
    configure_logging,
    is_to_say,
    print_error,
    print_traceback,
    replace_unencodable,
    set_verbosity,
    stderr,
    stdout,
)
from dataflex.errors import ConfigError, OneRankError

if TYPE_CHECKING:
    from dataflex.failures.telling import Told

EXIT_ERROR = 2
"""Exit code for an error the user can do something about."""

_TAKE_PLUGINS = frozenset(
    {"train", "study", "score", "list-components", "show-component", "check-component", "check-run", "doctor", "webui"}
)

app = typer.Typer(
    name="dataflex",
    cls=CommandsOfPackages,
    help="Choose, mix and weigh training data while a language model trains. Built on LlamaFactory.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; the console scripts call it.

    Args:
        argv: Arguments without the program's name; ``sys.argv`` by default.

    Raises:
        SystemExit: with the exit code: 2 after an error that is told in a sentence, without a traceback unless
            ``--debug`` asks for it.
        Exception: for an error inside DataFlex; it asks for a report.
    """
    replace_unencodable()
    configure_logging(int(os.environ.get("RANK", "0")))
    try:
        app(args=None if argv is None else list(argv))
    except Exception as error:
        from dataflex.failures.telling import tell

        told = tell(error)
        if told.is_bug:
            error.add_note(told.sentence)
            raise
        _print(error, told, os.environ)
        if argv is None:
            _end(EXIT_ERROR)
        raise SystemExit(EXIT_ERROR) from None
    except SystemExit as ending:  # the application always raises it; SIGTERM does so in a training run
        if argv is None and (ending.code is None or isinstance(ending.code, int)):
            _end(ending.code or 0)
        raise


def _end(code: int) -> None:
    """End a rank of torchrun here, if the command is all of its process: taken apart, its interpreter could abort."""
    if "RANK" in os.environ:
        from dataflex.distributed import end_rank

        end_rank(code)


def _print(error: Exception, told: Told, environ: Mapping[str, str]) -> None:
    """Print an error as far as this rank is the one to say it."""
    from dataflex.failures.debugging import debugging
    from dataflex.failures.telling import formatted

    if not told.alone and environ.get("LOCAL_RANK", "0") != "0":
        return  # the ranks of a node fail alike: one of them says why
    named = isinstance(error, OneRankError) or (told.alone and environ.get("WORLD_SIZE", "1") != "1")
    print_error(f"rank {environ.get('RANK', '0')}: {told.sentence}" if named else told.sentence)
    if debugging(environ):
        print_traceback(formatted(error))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dataflex-core {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version of dataflex-core.")
]


@app.callback(invoke_without_command=True)
def _root(ctx: typer.Context, plugin: PluginValues = None, version: VersionOption = False) -> None:
    _warn_of_rival()
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        return
    if plugin and ctx.invoked_subcommand not in _TAKE_PLUGINS:
        raise ConfigError(f"{ctx.invoked_subcommand} takes no plugins; leave out -p {plugin[0]}.")
    ctx.obj = list(plugin or ())


@app.command()
def train(
    ctx: typer.Context,
    run_file: Annotated[Path, path_argument(metavar="RUN_FILE", help="YAML or JSON file of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Keys that replace those of the file.")
    ] = None,
    plugin: PluginValues = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings, errors and the losses only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all numbers of each decision.")] = False,
) -> None:
    """Train a model as a run file says.

    A run file is a LlamaFactory YAML with DataFlex's keys on top: `train_type`, `component_name`, `warmup_step`,
    `update_step`, `update_times`, `component_params`. Everything that can be checked is checked before the model loads.

    `dataflex train run.yaml update_step=50 component_params.temperature=0.5`

    Several devices, or `FORCE_TORCHRUN=1`, start it under torchrun; `NPROC_PER_NODE`, `NNODES`, `NODE_RANK`,
    `MASTER_ADDR` and `MASTER_PORT` work as in LlamaFactory.
    """
    from dataflex.cli.train import run_train

    set_verbosity(quiet=quiet, verbose=verbose)
    run_train(run_file, list(overrides or ()), plugin_values(ctx, plugin))


study_command.register(app)


@app.command()
def score(
    ctx: typer.Context,
    run_file: Annotated[Path, path_argument(metavar="RUN_FILE", help="YAML or JSON file of a run, of any train type.")],
    out: Annotated[Path, path_option("--out", metavar="DIR", help="New folder for the results.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Keys that replace those of the file.")
    ] = None,
    component: Annotated[
        str | None, typer.Option("--component", metavar="NAME", help="A selector; by default the run file's.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        path_option("--checkpoint", metavar="DIR", help="Score with a checkpoint's weights and optimizer state."),
    ] = None,
    keep_top: Annotated[
        float | None,
        typer.Option("--keep-top", metavar="SHARE", help="Also write this share of the rows, the best, as a data set."),
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", help="Also write the N rows of highest score as a data set.")
    ] = None,
    draw: Annotated[
        bool,
        typer.Option("--draw", help="Draw the rows to keep as the selector's mode: sample does, by the run's seed."),
    ] = False,
    plugin: PluginValues = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings, errors and results only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show more of what happens.")] = False,
) -> None:
    """Score a pool with a selector, without training: scores.parquet, summary.json, and the best rows as a data set.

    `dataflex score run.yaml --component less --checkpoint saves/run/checkpoint-100 --out scores --keep-top 0.1`

    Scores are those of a run's own boundary at that checkpoint. Several devices work as with `train`. The same command
    goes on where a killed one stopped, and another `--keep` does not score again.
    """
    from dataflex.cli.score import ScoreOptions, run_score

    set_verbosity(quiet=quiet, verbose=verbose)
    options = ScoreOptions(component=component, out=out, checkpoint=checkpoint, keep_top=keep_top, keep=keep, draw=draw)
    run_score(run_file, list(overrides or ()), plugin_values(ctx, plugin), options)


@app.command()
def report(
    runs: Annotated[
        list[Path], path_argument(metavar="RUN...", help="Output directories of runs, or the folder of a study.")
    ],
    out: Annotated[Path, path_option("--out", metavar="FILE", help="The HTML file.")] = Path("report.html"),
    png: Annotated[Path | None, path_option("--png", metavar="DIR", help="Write each plot as a PNG, too.")] = None,
) -> None:
    """Show what runs did: one HTML file with losses, decisions, samples and times. Several runs are compared.

    A run may still be going, or may have been killed. Neither model nor data is needed.
    """
    from dataflex.cli.report import run_report

    run_report(runs, out, png)


watch_command.register(app)
webui_command.register(app)


@app.command()
def demo(
    out: Annotated[Path, path_option("--out", metavar="DIR", help="Folder for everything it writes.")] = Path(
        "dataflex-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Seed of data, model and runs.")] = 42,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples and steps: a smoke test, no result.")] = False,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Make data and model, and train nothing: for `dataflex study`.")
    ] = False,
) -> None:
    """Train small models on real text, offline: dynamic selection beside the random baseline."""
    from dataflex.cli.demo import run_demo

    run_demo(out, seed, quick, prepare_only)


component_commands.register(app)


@app.command("check-run")
def check_run(
    ctx: typer.Context,
    run_files: Annotated[list[Path], path_argument(metavar="RUN_FILE...", help="YAML or JSON files of runs.")],
    plugin: PluginValues = None,
) -> None:
    """Check run files as `train` does before it loads a model or data, and say what kind of run each is.

    All that is wrong is printed at once, in the words of `train`, with exit code 2; nothing is written.
    """
    from dataflex.cli.check_run import check_runs

    check_runs(run_files, plugin_values(ctx, plugin))


@app.command()
def cache(
    action: Annotated[CacheAction, typer.Argument(metavar="list|clear", help="What to do.")],
    folder: Annotated[Path, path_argument(metavar="DIR", help="An embeddings_dir, or a run's output directory.")],
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only what a killed run has left.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List or delete the embeddings that runs have kept in a folder, and what making them took.

    `dataflex cache list embeddings`

    What a run makes at this moment stays.
    """
    from dataflex.cli.cache import run_cache

    run_cache(action, folder, unfinished, as_json)


@app.command()
def doctor(ctx: typer.Context, as_json: JsonOption = False, plugin: PluginValues = None) -> None:
    """Check versions, plugins, the seams to LlamaFactory and devices; exit code 1 if something is broken."""
    from dataflex.cli.doctor import doctor as examine

    if not examine(plugin_values(ctx, plugin), as_json):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version of dataflex-core and of LlamaFactory."""
    import importlib_metadata

    try:
        llamafactory = importlib_metadata.version("llamafactory")
    except importlib_metadata.PackageNotFoundError:
        llamafactory = "not installed"
    stdout.print(f"dataflex-core {__version__} (llamafactory {llamafactory})")


passthrough.register(app)


def _warn_of_rival() -> None:
    from dataflex.plugins.manager import REPAIR, RIVAL, rival_installed

    found = rival_installed()
    if found is not None and is_to_say(os.environ):
        stderr.print(
            f"Warning: PyPI's other distribution {RIVAL} {found} is installed too. It owns the same import package and "
            f"the same dataflex-cli, and may have replaced files of dataflex-core. Repair: {REPAIR}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
