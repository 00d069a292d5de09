"""The demo from its first line to its last."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from dataflex.console import print_table, stderr, stdout
from dataflex.demo import process, results, tables
from dataflex.demo.build import build_data, build_model, devices
from dataflex.demo.findings import findings
from dataflex.demo.folder import prepare
from dataflex.demo.progress import phase
from dataflex.demo.results import RunResult
from dataflex.demo.runs import BASELINE, RUNS, DemoRun, Paths, command, write_study
from dataflex.demo.settings import Settings
from dataflex.demo.watching import RunLines
from dataflex.errors import ConfigError, DataFlexError
from dataflex.phases.gpus import deal
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind
from dataflex.study.checks import Tools
from dataflex.study.conduct import Conductor, Options
from dataflex.study.file import read_study_file
from dataflex.study.page import write_page
from dataflex.study.study_file import StudyFile
from dataflex.study.study_run import Status

SUMMARY_SCHEMA = 1


def tour(out: Path, settings: Settings, tools: Tools, *, quick: bool) -> None:
    """Build, train, compare, print; leaves ``summary.json`` with everything that was printed, and a report.

    Args:
        out: Where everything goes.
        settings: How large.
        tools: Who checks the runs.
        quick: Noted in the summary: figures of a quick demo mean nothing.

    Raises:
        ConfigError: if ``out`` cannot be used, the machine holds too little text, or ``random`` is not installed.
        DataFlexError: if a run fails.
    """
    arms, missing = installed(RUNS)
    paths = Paths(prepare(out))
    for name in missing:
        stderr.print(f"The selector {name} is not installed; its run is left out.", style="yellow")
    seconds: dict[str, float] = {}
    data = build_data(settings, paths, seconds)
    model = build_model(data, settings, paths, seconds)
    there = devices()
    study = read_study_file(write_study(arms, settings, paths, cpu=there == 0))
    finished = [results.read(run, data.pool_domains) for run in _train(study, tools, there)]
    seconds["runs"] = sum(run.wall_seconds for run in finished)
    pool = results.shares(data.pool_domains)
    sentences = findings(finished, BASELINE.name)
    summary = {
        "schema": SUMMARY_SCHEMA,
        "quick": quick,
        "settings": dataclasses.asdict(settings),
        "model": model,
        "rows": {name: len(rows) for name, rows in data.splits.items()},
        "pool_shares": pool,
        "seconds": seconds,
        "runs": [dataclasses.asdict(run) for run in finished],
        "findings": sentences,
    }
    paths.summary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    with phase("Report"):
        write_page(paths.root)
    _print(finished, pool, sentences, paths, quick=quick)


def prepare_only(out: Path, settings: Settings) -> None:
    """Build data and pretrained model for a seed, and train nothing: what a study of the demo's text begins with.

    Args:
        out: Where they go: ``data/`` and ``model/``.
        settings: How large.

    Raises:
        ConfigError: if ``out`` cannot be used, or the machine holds too little text.
    """
    paths, seconds = Paths(prepare(out)), dict[str, float]()
    build_model(build_data(settings, paths, seconds), settings, paths, seconds)
    stdout.print(f"dataset_dir: {paths.data}\nmodel_name_or_path: {paths.model}", markup=False, soft_wrap=True)


def installed(runs: Sequence[DemoRun]) -> tuple[list[DemoRun], list[str]]:
    """The runs whose selector some plugin provides, and the names of the selectors that none does.

    Raises:
        ConfigError: if the baseline is missing.
        PluginError: if a selector is there but broken.
    """
    catalog = Catalog(PluginManager.load(PluginOptions.gather([], os.environ)).plugins)
    usable, missing = [], []
    for run in runs:
        try:
            catalog.find(Kind.SELECTOR, run.component)
        except ConfigError:
            if run == BASELINE:
                raise
            missing.append(run.component)
        else:
            usable.append(run)
    return usable, missing


def _train(study: StudyFile, tools: Tools, there: int) -> list[results.Finished]:
    """Train the runs of the study one by one.

    Args:
        study: The study.
        tools: Who checks them.
        there: Accelerators of this machine; each run gets one.

    Raises:
        DataFlexError: if one of them fails, with the end of its log.
    """
    gpus = deal(os.environ, lambda: there, jobs=1, per_run=None, per_run_named="")
    options = Options(gpus=gpus, environ=process.defaults(os.environ))
    conductor = Conductor(study, tools, options, RunLines())
    with conductor.stop.listening():
        conductor.prepare()
        conductor.train()
    record = conductor.state.write()
    if conductor.stop.signal:
        raise SystemExit(128 + conductor.stop.signal)
    finished = []
    for run, found in zip(conductor.state.plan.runs(), record.runs, strict=True):
        if found.status is not Status.DONE:
            raise DataFlexError(
                f"the run {run.series} failed: {found.error}. The end of its log:\n\n{process.tail(run.log)}\n\n"
                f"Repeat it by hand: {command(run.file)}"
            )
        finished.append(
            results.Finished(
                name=run.series,
                component=str(run.run.component_name()),
                output_dir=run.output_dir,
                run_file=run.file,
                log=run.log,
                wall_seconds=sum(value for value in found.seconds.values() if value is not None),
            )
        )
    return finished


def _print(
    finished: Sequence[RunResult],
    pool: dict[str, float],
    sentences: Sequence[str],
    paths: Paths,
    *,
    quick: bool,
) -> None:
    entries = {
        "data set": str(paths.data),
        "model": str(paths.model),
        **{f"run {run.name}": run.run_file for run in finished},
        "results": str(paths.root / "runs"),
        "logs": str(paths.root / "logs"),
        "all figures": str(paths.summary),
        "study": str(paths.study),
        "report": str(paths.report),
    }
    for table in (tables.places(entries), tables.selections(finished, pool), tables.losses(finished)):
        stdout.print()
        print_table(table)
    stdout.print()
    for sentence in sentences:
        stdout.print(f"• {sentence}", soft_wrap=not stdout.is_terminal, markup=False)
    if quick:
        stdout.print("• This was a quick demo: it shows that everything works, and its losses mean nothing.")
    stdout.print("\nRepeat any run, or change it on the way:")
    for run in finished:
        stdout.print(f"  {run.command}", soft_wrap=True, markup=False)
    stdout.print(f"  {finished[-1].command} learning_rate=1e-3", soft_wrap=True, markup=False)
