"""The command ``dataflex doremi``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dataflex import ConfigError
from dataflex.console import print_json, print_table
from dataflex.paths import expand_keys, user_path
from dataflex_mixers_doremi.checks import check_phases
from dataflex_mixers_doremi.phases import SECTION, Phase, plan_phases
from dataflex_mixers_doremi.run import progress, run_phases

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
    keys = _read(run_file, list(overrides or ()))
    phases = plan_phases(keys, rounds, run_file)
    check_phases(phases, list(plugin or ()))
    if dry_run:
        _show(phases, as_json)
    else:
        run_phases(phases, Path(str(keys["output_dir"])), list(plugin or ()))


def _read(path: Path, overrides: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise ConfigError(f"run file {path} does not exist (working directory {Path.cwd()}).")
    for item in overrides:
        if not item.partition("=")[1] or item.startswith(("-", "=")):
            raise ConfigError(f"{item!r} on the command line is not an override; write key=value, without dashes.")
    try:
        merged = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(overrides))
        keys = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise ConfigError(f"run file {path} cannot be read: {error}") from error
    if not isinstance(keys, dict):
        raise ConfigError(f"run file {path} holds a list, not keys and values.")
    expanded = expand_keys({str(key): value for key, value in keys.items()})
    sections = expanded.get(SECTION)
    if isinstance(sections, dict):
        expanded[SECTION] = {
            name: expand_keys(section) if isinstance(section, dict) else section for name, section in sections.items()
        }
    return expanded


def _show(phases: list[Phase], as_json: bool) -> None:
    from rich.table import Table

    from dataflex_mixers_doremi.model_size import parameters, spell

    models = {str(phase.keys.get("model_name_or_path")): phase.keys for phase in phases}
    sizes = {name: parameters(name, keys) for name, keys in models.items()}
    rows = [
        {
            "phase": phase.title,
            "model": str(phase.keys.get("model_name_or_path")),
            "parameters": sizes[str(phase.keys.get("model_name_or_path"))],
            "length": phase.length,
            "train_type": phase.keys["train_type"],
            "state": str(progress(phase)),
            "run_file": str(phase.run_file),
        }
        for phase in phases
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(spell(value) if name == "parameters" else str(value) for name, value in row.items()))
    print_table(table)
