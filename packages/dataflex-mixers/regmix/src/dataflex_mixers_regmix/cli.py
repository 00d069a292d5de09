"""The command ``dataflex regmix``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dataflex import ConfigError
from dataflex.hints import did_you_mean
from dataflex.paths import user_path
from dataflex_mixers_regmix.answer_files import PLOT_NAME, WEIGHTS_NAME, draw, record, weights_text
from dataflex_mixers_regmix.search import require_correlation, search
from dataflex_mixers_regmix.settings import OBJECTIVE, read_settings
from dataflex_mixers_regmix.table import read_runs

FIT = "fit"

fit_app = typer.Typer(name="dataflex regmix fit", add_completion=False, pretty_exceptions_enable=False)


def main(argv: Sequence[str]) -> None:
    """Run the command.

    Args:
        argv: Arguments after ``regmix``.

    Raises:
        SystemExit: with the exit code.
    """
    if argv[:1] != [FIT]:
        raise ConfigError(f"`dataflex regmix` takes {FIT} and a table of runs.")
    fit_app(args=list(argv[1:]), prog_name="dataflex regmix fit")


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
