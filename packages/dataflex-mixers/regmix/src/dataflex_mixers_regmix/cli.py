"""The command ``dataflex regmix``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dataflex import ConfigError
from dataflex.hints import did_you_mean
from dataflex.paths import user_path
from dataflex.phases.checks import check_phases
from dataflex.phases.conduct import How
from dataflex.phases.project_file import read_project
from dataflex.phases.shown import show
from dataflex.phases.where import LOCAL, where
from dataflex_mixers_regmix.answer_files import PLOT_NAME, WEIGHTS_NAME, draw, record, weights_text
from dataflex_mixers_regmix.plan import plan_project
from dataflex_mixers_regmix.project import run_project
from dataflex_mixers_regmix.search import require_correlation, search
from dataflex_mixers_regmix.settings import OBJECTIVE, SECTION, read_settings
from dataflex_mixers_regmix.table import read_runs

FIT = "fit"

app = typer.Typer(name="dataflex regmix", add_completion=False, pretty_exceptions_enable=False)
fit_app = typer.Typer(name="dataflex regmix fit", add_completion=False, pretty_exceptions_enable=False)


def main(argv: Sequence[str]) -> None:
    """Run the command.

    Args:
        argv: Arguments after ``regmix``.

    Raises:
        SystemExit: with the exit code.
    """
    if argv[:1] == [FIT]:
        fit_app(args=list(argv[1:]), prog_name=f"dataflex regmix {FIT}")
    app(args=list(argv), prog_name="dataflex regmix")


@app.command()
def regmix(
    run_file: Annotated[
        Path,
        typer.Argument(metavar="RUN_FILE|fit", parser=user_path, help="YAML file of the project; or `fit`."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Keys that replace those of the file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print the phases, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on below a rank correlation of .5, and after a check that was worse.")
    ] = False,
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
    """Train small models on different mixtures, find the best one by a law, and train the final model on it.

    The file is a LlamaFactory one; `regmix: {runs: ..., targets: ..., final: ...}` holds the rest. The same command
    goes on after an interruption; complete runs are skipped. `dataflex regmix fit RUNS_CSV` finds the mixture from a
    table.
    """
    plan = plan_project(read_project(run_file, list(overrides or ()), SECTION), run_file)
    check_phases(plan.phases, list(plugin or ()), command=SECTION)
    if dry_run:
        show(plan.phases, as_json=as_json)
        return
    place = where(on, plan.root, jobs=jobs, gpus_per_run=gpus_per_run)
    how = How(
        command=SECTION,
        plugins=list(plugin or ()),
        jobs=place.jobs,
        gpus=place.gpus,
        executor=None if on == LOCAL else place.executor,
    )
    run_project(plan, how, force=force)


@fit_app.command()
def fit(
    runs_file: Annotated[
        Path, typer.Argument(metavar="RUNS_CSV", parser=user_path, help="Table with columns share_NAME and loss_NAME.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="targets, prior, tokens, wanted_tokens, kl and repeats."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", parser=user_path, metavar="DIR", help="Where weights.json and a plot are written.")
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Go on below a rank correlation of .5.")] = False,
) -> None:
    """Find the best mixture from a table of runs: fit the law, validate it on left-out runs, minimise it.

    `dataflex regmix fit runs.csv prior=uniform targets.validation=1`
    """
    runs = read_runs(runs_file)
    settings = read_settings(_keys(list(overrides or ())), "the command line")
    wanted = settings.wanted(runs.domains, runs.sets)
    answer = search(runs.mixtures_NK, runs.losses_NM, wanted)
    require_correlation(answer, force=force)
    out.mkdir(parents=True, exist_ok=True)
    found = record(answer, wanted, runs.domains, runs.sets)
    (out / WEIGHTS_NAME).write_text(weights_text(found), encoding="utf-8")
    draw(answer, out / PLOT_NAME)
    shares = ", ".join(f"{name} {share:.3f}" for name, share in zip(runs.domains, answer.shares_K, strict=True))
    typer.echo(f"{out / WEIGHTS_NAME}: {shares}")
    typer.echo(
        f"predicted loss {answer.loss:.4f}, at the prior {answer.prior_loss:.4f}, best run {answer.found_N.min():.4f}; "
        f"rank correlation on left-out runs {answer.correlation:.2f}."
    )


def _keys(items: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for item in items:
        name, given, _ = item.partition("=")
        first = name.partition(".")[0]
        if not given or first not in OBJECTIVE:
            hint = did_you_mean(first, OBJECTIVE) if given else ""
            raise ConfigError(f"{item!r} on the command line sets none of {', '.join(OBJECTIVE)}.{hint}")
    try:
        keys = OmegaConf.to_container(OmegaConf.from_dotlist(items), resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{' '.join(items)} on the command line cannot be read: {error}") from error
    assert isinstance(keys, dict)
    return {str(key): value for key, value in keys.items()}
