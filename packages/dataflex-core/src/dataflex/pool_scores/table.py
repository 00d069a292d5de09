"""What the terminal shows of scores: a table by data set, and a histogram."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from dataflex.console import print_table, stdout
from dataflex.pool_scores.folder import ScoreFolder

BAR = 40
"""Characters of the longest bar."""


def score_table(title: str, numbers: Mapping[str, Any]) -> Table:
    """Rows, tokens and scores of each data set and, if there are several, of all.

    Args:
        title: Of the table.
        numbers: See :meth:`dataflex.pool_scores.scores.PoolScores.summary`.
    """
    parts = dict(numbers["domains"])
    if len(parts) != 1:
        parts["all"] = numbers
    table = Table("data set", title=title, title_justify="left")
    kept = "chosen_histogram_counts" in numbers["scores"]
    for column in ("rows", "tokens", "scored", "NaN", "mean", "5%", "median", "95%", *(("kept",) if kept else ())):
        table.add_column(column, justify="right")
    for name, part in parts.items():
        scores = part["scores"]
        cells = [f"{part['rows']:,}", f"{part['tokens']:,}", f"{scores['finite']:,}", f"{scores['nan']:,}"]
        cells += [_at(scores, None), _at(scores, 0.05), _at(scores, 0.5), _at(scores, 0.95)]
        if kept:
            cells.append(f"{sum(scores.get('chosen_histogram_counts', ())):,}")
        table.add_row(name, *cells)
    return table


def histogram(scores: Mapping[str, Any], *, block: str = "█") -> Iterator[str]:
    """Lines of a histogram, the lowest scores first; pairs of bins are joined.

    Args:
        scores: See :func:`dataflex.math.score_summary.score_summary`.
        block: What bars are made of.
    """
    if "histogram_range" not in scores:
        return
    low, high = scores["histogram_range"]
    counts = scores["histogram_counts"]
    pairs = [sum(counts[place : place + 2]) for place in range(0, len(counts), 2)]
    edges = [low + (high - low) * place / len(pairs) for place in range(len(pairs))]
    width = max(len(f"{edge:.4g}") for edge in edges)
    for edge, count in zip(edges, pairs, strict=True):
        bar = block * round(BAR * count / max(pairs))
        yield f"{edge:>{width}.4g} {bar}{' ' if bar else ''}{count:,}"


def show_scores(folder: ScoreFolder) -> None:
    """Print the table and histogram of a folder whose scores are complete."""
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    where = f"step {summary['step']} of {summary['checkpoint']}" if summary["checkpoint"] else str(summary["model"])
    print_table(score_table(f"Scores of {summary['component']} at {where}", summary))
    unicode = (stdout.encoding or "").lower().startswith("utf")
    for line in histogram(summary["scores"], block="█" if unicode else "#"):
        stdout.print(line, soft_wrap=True, markup=False)
    stdout.print(f"Scores: {folder.path}", soft_wrap=True, markup=False)


def show_kept(folder: Path, counts: Mapping[str, int], data_sets: int) -> None:
    """Say where the kept rows are, and how to train on them.

    Args:
        folder: Of the data set.
        counts: Rows by data set.
        data_sets: Data sets of the pool.
    """
    stdout.print(f"Kept: {sum(counts.values()):,} rows in {folder}", soft_wrap=True, markup=False)
    stdout.print("Train on them with the same run file and these keys:", soft_wrap=True)
    stdout.print(f"  dataset_dir={folder.absolute()}", soft_wrap=True, markup=False)
    if len(counts) < data_sets:
        stdout.print(f"  dataset={','.join(counts)}", soft_wrap=True, markup=False)


def _at(scores: Mapping[str, Any], level: float | None) -> str:
    if "mean" not in scores:
        return ""
    value = scores["mean"] if level is None else scores["quantiles"][scores["levels"].index(level)]
    return f"{value:.4g}"
