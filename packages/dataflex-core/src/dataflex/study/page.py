"""The page of a study: one HTML file that needs nothing else, from study.json and the runs' own files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex import __version__
from dataflex.errors import ConfigError, DataFlexError
from dataflex.record import files
from dataflex.report.page import environment, figure, write_report
from dataflex.report.style import Plot
from dataflex.study import plots, tables
from dataflex.study.file import COUNTED
from dataflex.study.reading import Point, curve
from dataflex.study.record import NAME, StudyRecord, read_record
from dataflex.study.study_run import Cost, Status, StudyRun

logger = logging.getLogger("dataflex")

PAGE, PNG = "report.html", "png"
OWN = "report.html"
"""The report of a single run, in its output directory."""


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study."""
    return (folder / NAME).is_file()


def write_page(folder: Path, out: Path | None = None, png: Path | None = None) -> list[Path]:
    """Write the page of a study, and the report of each finished run that has none yet.

    Args:
        folder: The study's folder.
        out: The HTML file; by default ``report.html`` in the folder.
        png: Folder for the figures as PNG files; by default ``png/`` in it.

    Returns:
        The files that were written, the page first.

    Raises:
        ConfigError: if the folder is not a study's.
    """
    record = read_record(folder)
    if record is None:
        raise ConfigError(f"{folder} is not the folder of a study: it holds no {NAME}. Name the study's out.")
    out, png = out or folder / PAGE, png or folder / PNG
    _write_own_reports(record, folder)
    figures = _figures(record, folder)
    files.replace_text(out, render(record, figures, folder, out))
    png.mkdir(parents=True, exist_ok=True)
    for plot in figures:
        (png / f"{plot.name}.png").write_bytes(plot.png())
    return [out, *(png / f"{plot.name}.png" for plot in figures)]


def render(record: StudyRecord, figures: Sequence[Plot], folder: Path, out: Path) -> str:
    """The page as text. All that comes from a file is escaped; the SVG elements are matplotlib's, which escapes too."""
    template = environment("dataflex.study").get_template("study.html")
    study = record.study
    verdicts = [arm["verdict"] for arm in record.arms.values() if arm["verdict"]]
    arms = tables.arm_rows(record.runs, record.arms, baseline=study["baseline"], unit=study["cost"])
    return template.render(
        version=__version__,
        name=Path(str(study["file"])).stem,
        baseline=study["baseline"],
        verdicts=verdicts,
        silence=_why_silent(record),
        question=_question(record),
        notes=_notes(record),
        arms=_grid(arms, {}),
        runs=_grid(tables.run_rows(record.runs, study["cost"]), _links(record.runs, folder, out)),
        figures=[figure(each) for each in figures],
        settings={
            "The study's file": {key: _text(value) for key, value in study.items()},
            "Machine and versions": {**{k: _text(v) for k, v in record.machine.items()}, **record.versions},
        },
    )


def _figures(record: StudyRecord, folder: Path) -> list[Plot]:
    study = record.study
    curves: dict[str, list[tuple[str, Sequence[Point]]]] = {}
    for run in record.runs:
        if run.status is Status.DONE and run.length in (None, 1):
            try:
                counted = study.get("shared_index", COUNTED) == COUNTED
                points = curve(folder / run.output_dir, study["metric"], counts_index=counted)
            except DataFlexError:
                continue
            curves.setdefault(run.arm, []).append((run.name, points))
    return plots.figures(
        record.runs,
        record.arms,
        curves,
        baseline=study["baseline"],
        metric=study["metric"],
        unit=study["cost"],
    )


def _write_own_reports(record: StudyRecord, folder: Path) -> None:
    """The report of each finished run, unless it is newer than what the run wrote."""
    for run in record.runs:
        output_dir = folder / run.output_dir
        results, own = output_dir / "eval_results.json", output_dir / OWN
        if run.status is not Status.DONE or not results.is_file():
            continue
        if own.is_file() and own.stat().st_mtime >= results.stat().st_mtime:
            continue
        try:
            write_report([output_dir], own)
        except DataFlexError as error:
            logger.warning("the report of %s could not be written: %s", output_dir, error)


def _grid(rows: Sequence[tables.Row], links: Mapping[int, str]) -> dict[str, Any]:
    heads, cells = tables.filled(rows)
    return {
        "heads": heads,
        "rows": [
            [{"text": cell, "link": links.get(number, "") if not place else ""} for place, cell in enumerate(row)]
            for number, row in enumerate(cells)
        ],
    }


def _links(runs: Sequence[StudyRun], folder: Path, out: Path) -> dict[int, str]:
    """The reports of the runs, from where the page lies."""
    found = {}
    for number, run in enumerate(runs):
        own = folder / run.output_dir / OWN
        if own.is_file():
            found[number] = Path(*_relative(own.resolve(), out.resolve().parent)).as_posix()
    return found


def _relative(path: Path, base: Path) -> tuple[str, ...]:
    shared = next(each for each in [base, *base.parents] if path.is_relative_to(each))
    up = [".."] * len(base.relative_to(shared).parts)
    return (*up, *path.relative_to(shared).parts)


def _question(record: StudyRecord) -> str:
    study = record.study
    seeds = ", ".join(map(str, study["seeds"]))
    length = "" if record.total is None else f", of {record.total:,} optimizer steps where an arm names no other length"
    unit = plots.UNITS[study["cost"]].removeprefix("cost in ")
    return (
        f"{study['metric']}, where {study['direction']} is better, of {len(study['arms'])} arms with the seeds {seeds}"
        f"{length}. Cost is training and deciding, in {unit}. Gains are paired by seed; above 0, the arm is better "
        f"than {study['baseline']}."
    )


def _why_silent(record: StudyRecord) -> str:
    if len(record.study["seeds"]) < 3:
        return "one or two seeds say nothing about the next one; add seeds to the file"
    return "the seeds do not agree, or runs are missing"


def _notes(record: StudyRecord) -> list[str]:
    """What a reader has to know of how the runs were made."""
    notes = []
    own = dict.fromkeys(run.arm for run in record.runs if run.length is None)
    if own:
        notes.append(f"With a length of their own: {', '.join(own)}.")
    if record.study["cost"] == Cost.SECONDS and any(run.shared_cores for run in record.runs):
        notes.append(
            "Runs shared the cores of a machine, so their seconds depend on each other; CPU seconds stand beside them. "
            "For a comparison that does not, run one at a time or choose cost: steps."
        )
    left = [run for run in record.runs if run.status is not Status.DONE]
    if left:
        failed = sum(run.status is Status.FAILED for run in left)
        notes.append(f"{len(left)} of {len(record.runs)} runs are not done, {failed} of them failed.")
    return notes


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
