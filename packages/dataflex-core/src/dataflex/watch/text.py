"""A run or a study that is watched, in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dataflex.decisions import Decision
from dataflex.report.labels import visible
from dataflex.report.run import RunData, is_number
from dataflex.report.tables import duration
from dataflex.watch.page import AnyView, AnyViewer, viewer_of
from dataflex.watch.pulse import State
from dataflex.watch.study import HEADS, StudyView

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

EVERY = 2.0
"""Seconds between two looks."""

_DECISIONS, _SAMPLES = 6, 3
_LONGEST = 200  # letters of a sample


def watch_in(console: Console, folder: Path, *, once: bool) -> None:
    """Show a run or a study until it has ended; outside a terminal, or if asked for, one look.

    Raises:
        ConfigError: if the folder is neither.
    """
    viewer = viewer_of(folder)
    if once or not console.is_terminal:
        console.print(shown(viewer.look()))
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while not _renew(live, viewer):
            time.sleep(EVERY)


def _renew(live: Live, viewer: AnyViewer) -> bool:
    view = viewer.look()
    live.update(shown(view), refresh=True)
    return view.share == 1.0 if isinstance(view, StudyView) else view.sign.state is State.ENDED


def shown(view: AnyView) -> RenderableType:
    """One look, as text. Nothing of a run is taken for markup."""
    parts: list[RenderableType] = [Text.assemble((visible(view.name), "bold"), f": {visible(view.state)}")]
    if view.trouble:
        parts.append(Text(f"cannot be read now: {visible(view.trouble)}", style="red"))
    if view.share is not None:
        bar = Table.grid()
        bar.add_row(ProgressBar(total=1.0, completed=view.share, width=40), Text(f" {view.share:.0%}"))
        parts.append(bar)
    if isinstance(view, StudyView):
        return Group(*parts, _table(HEADS, view.rows))
    facts = Table.grid(padding=(0, 2))
    for name, value in view.facts:
        facts.add_row(Text(name, style="dim"), Text(visible(value), overflow="fold"))
    parts.append(facts)
    return Group(*parts, *([] if view.run is None else _of_run(view.run)))


def _of_run(run: RunData) -> list[RenderableType]:
    parts: list[RenderableType] = []
    decisions = run.decisions[-_DECISIONS:]
    if decisions:
        names = dict.fromkeys(name for each in decisions for name in _numbers(each))
        rows = [
            [
                f"{each.step:,}",
                each.component,
                duration(each.seconds),
                *(_numbers(each).get(name, "") for name in names),
            ]
            for each in decisions
        ]
        parts += [Text(), _table(["step", "decided by", "took", *names], rows)]
    if any(run.seconds.values()):
        whole = sum(run.seconds.values())
        spent = [f"{part} {seconds / whole:.0%}" for part, seconds in run.seconds.items() if seconds]
        parts += [Text(), Text(f"time: {', '.join(spent)}")]
    for sample in [each for each in run.samples if each.most][:_SAMPLES]:
        text = " ".join(visible(sample.text or "").split())
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
        parts.append(Text(f"row {sample.row:,}, planned {sample.chosen} times: {text}", style="dim"))
    return parts


def _numbers(decision: Decision) -> dict[str, str]:
    """What a decision says in short: the share of each domain, and the number for it that it has."""
    domains, shares = (decision.metrics.get(name) for name in ("domains", "proportions"))
    shares = shares if shares is not None else decision.metrics.get("realised_samples")
    found = {name: f"{value:.4g}" for name, value in decision.metrics.items() if is_number(value)}
    if isinstance(domains, list) and isinstance(shares, list):
        pairs = zip(domains, shares, strict=False)
        found |= {visible(str(domain)): f"{share:.1%}" for domain, share in pairs if is_number(share)}
    mean = decision.scores.get("mean")
    return found | ({"mean score": f"{mean:.4g}"} if is_number(mean) else {})


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Columns that are empty in every row are left out."""
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    table = Table(box=None, pad_edge=False)
    for place in kept:
        table.add_column(Text(heads[place], style="dim"))
    for row in rows:
        table.add_row(*(Text(visible(row[place]), overflow="fold") for place in kept))
    return table
