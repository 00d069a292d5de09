"""``dataflex study``: which method pays for itself, on one's own data."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataflex.config.plan import PreparedRun
from dataflex.config.run import RunFile
from dataflex.console import configure_logging, print_table, stdout
from dataflex.errors import ConfigError
from dataflex.phases.where import LOCAL, where
from dataflex.plugins.options import PluginOptions
from dataflex.study import tables
from dataflex.study.checks import Tools
from dataflex.study.conduct import Options, conduct
from dataflex.study.dry_run import dry_run
from dataflex.study.file import StudyFile, read_study_file
from dataflex.study.progress import Progress
from dataflex.study.record import StudyRecord, read_record
from dataflex.study.run_files import text_of
from dataflex.study.study_run import Status

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger("dataflex")


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options of ``dataflex study``.

    Attributes:
        jobs: Most runs at once; ``None`` was not given.
        gpus_per_run: GPUs of each run; ``None`` was not given.
        on: Where the runs run.
        retry_failed: Whether failed runs are tried again.
        restart: Arms that are trained anew.
        extend_baseline: Whether to train the next length of the baseline where one is missing.
        dry_run: Whether to list the runs alone.
    """

    jobs: int | None = None
    gpus_per_run: int | None = None
    on: str = LOCAL
    retry_failed: bool = False
    restart: Sequence[str] = ()
    extend_baseline: bool = False
    dry_run: bool = False


def run_study(file: Path, overrides: Sequence[str], plugin_values: Sequence[str], options: StudyOptions) -> int:
    """Conduct a study, or list its runs.

    Args:
        file: The study file.
        overrides: ``key=value`` items.
        plugin_values: The values of ``-p``.
        options: The command's options.

    Returns:
        The exit code: 1 if runs failed or were stopped by others, else 0.

    Raises:
        DataFlexError: for whatever the study is refused for.
    """
    configure_logging(0)
    study = read_study_file(file, overrides)
    environ = PluginOptions.gather(plugin_values, os.environ).to_environment()
    tools = tools_with(plugin_values)
    if options.dry_run:
        _show_dry_run(study, tools, options)
        return 0
    place = where(options.on, study.out, jobs=options.jobs, gpus_per_run=options.gpus_per_run)
    how = Options(
        jobs=place.jobs,
        gpus=place.gpus,
        executor=place.executor,
        plugins=plugin_values,
        environ=environ,
        retry_failed=options.retry_failed,
        restart=options.restart,
        extend_baseline=options.extend_baseline,
    )
    with Progress(study.out.name, place.jobs) as progress:
        record, signalled = conduct(study, tools, how, progress)
    return finish(record, study.out, signalled=signalled)


def finish(record: StudyRecord, out: Path, *, signalled: bool) -> int:
    """Print what came of a study and write its page; returns the exit code."""
    from dataflex.study.page import write_page

    show(record, out)
    page, *plots = write_page(out)
    stdout.print(
        f"\nReport: {page}   Figures: {len(plots)} PNG files in {page.parent / 'png'}", markup=False, soft_wrap=True
    )
    left = [run for run in record.runs if run.status is not Status.DONE]
    if signalled:
        logger.warning("stopped with %s left: the same command goes on.", f"{len(left)} runs" if left else "all runs")
        return 0
    return 1 if left else 0


def list_runs(folder: Path) -> None:
    """Print the runs of a study and what they say, without training.

    Raises:
        ConfigError: if the folder is not a study's.
    """
    record = read_record(folder)
    if record is None:
        raise ConfigError(
            f"--list {folder} is not the folder of a study: it holds no study.json. Name the study's out."
        )
    show(record, folder)


def show(record: StudyRecord, folder: Path) -> None:
    """Print the tables of a study, and its verdicts."""
    study = record.study
    stdout.print()
    print_table(_table(tables.run_rows(record.runs, study["cost"])))
    stdout.print()
    print_table(_table(tables.arm_rows(record.runs, record.arms, baseline=study["baseline"], unit=study["cost"])))
    for arm in record.arms.values():
        if arm["verdict"]:
            stdout.print(f"• {arm['verdict']}.", markup=False, soft_wrap=True)


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    heads, cells = tables.filled([dict(row) for row in rows])
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, no_wrap=head not in ("remark", "other sets"), overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def tools_with(plugin_values: Sequence[str]) -> Tools:
    """Who checks the runs of a study, as ``check-run`` does.

    Args:
        plugin_values: The values of ``-p``.
    """
    from dataflex.cli.early import examine

    def check(run: RunFile) -> PreparedRun | None:
        return examine(run, plugin_values, starts=False)[1]

    def check_command(command: str, run: RunFile) -> None:
        _ask(command, run, plugin_values)

    return Tools(check=check, check_command=check_command, defaults=_defaults())


def _defaults() -> dict[str, object]:
    from dataflex.bridge import llamafactory, versions
    from dataflex.importing import uncollected

    with uncollected():
        versions.require()
        llamafactory.known_keys()  # says what is wrong with a LlamaFactory that cannot be imported
        return llamafactory.known_defaults()


def _ask(command: str, run: RunFile, plugin_values: Sequence[str]) -> None:
    """Let a command check its file with --dry-run, in a process of its own.

    Raises:
        ConfigError: with what it refuses.
    """
    chosen = [word for value in plugin_values for word in ("-p", value)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, run.path.name)
        file.write_text(text_of(run), encoding="utf-8")
        asked = [sys.executable, "-m", "dataflex", command, str(file), "--dry-run", *chosen]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        _, found, said = done.stderr.rpartition("Error: ")
        lines = said.strip() if found else done.stderr.strip()[-500:]
        raise ConfigError(lines or f"dataflex {command} --dry-run ended with exit code {done.returncode}.")


def _show_dry_run(study: StudyFile, tools: Tools, options: StudyOptions) -> None:
    found = dry_run(study, tools, retry_failed=options.retry_failed, restart=options.restart)
    print_table(_table(found.rows))
    stdout.print(f"{found.count} runs, {found.left} of them to train or evaluate.", markup=False)
    for note in found.notes:
        stdout.print(note, markup=False, soft_wrap=True)
    for text in found.files:
        stdout.print()
        stdout.print(text.rstrip(), markup=False, soft_wrap=True)
