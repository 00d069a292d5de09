"""The tables of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dataflex.demo.results import Choice, RunResult
from dataflex.demo.row import Domain

if TYPE_CHECKING:
    from rich.table import Table

_MOST_LINES = 4
"""Boundaries shown one by one; a run with more gets one line with the mean of all."""


def places(entries: Mapping[str, str]) -> Table:
    """Where everything lies."""
    table = _table("Where everything lies", "what", "where")
    for what, where in entries.items():
        table.add_row(what, where)
    return table


def selections(results: Sequence[RunResult], pool: Mapping[str, float]) -> Table:
    """Share of each domain among the rows chosen at each boundary."""
    table = _table("What was selected", "run", "at step", *(f">{domain.value}" for domain in Domain), ">seconds")
    table.add_row("(whole pool)", "", *(f"{pool[domain]:.0%}" for domain in Domain), "", style="dim")
    for result in results:
        if len(result.choices) <= _MOST_LINES:
            lines = [(str(choice.step), choice) for choice in result.choices]
        else:
            lines = [(f"{len(result.choices)} times, mean", _mean(result.choices))]
        for step, choice in lines:
            cells = [f"{choice.shares[domain]:.0%}" for domain in Domain]
            table.add_row(result.name, step, *cells, f"{choice.seconds:.2f}")
    return table


def losses(results: Sequence[RunResult]) -> Table:
    """Eval losses and what they cost."""
    table = _table(
        "What came out (loss in nats per token, lower is better; seconds)",
        *("run", ">steps", ">docstrings", ">other domains", ">training", ">scoring", ">evaluation", ">start, end"),
    )
    best = {
        "target": min(result.target_loss for result in results),
        "others": min(result.others_loss for result in results),
    }
    for result in results:
        table.add_row(
            result.name,
            str(result.steps),
            _mark(result.target_loss, best["target"]),
            _mark(result.others_loss, best["others"]),
            f"{result.training_seconds:.1f}",
            f"{result.scoring_seconds:.1f}",
            f"{result.evaluation_seconds:.1f}",
            f"{result.starting_seconds:.1f}",
        )
    return table


def _mean(choices: Sequence[Choice]) -> Choice:
    count = len(choices)
    return Choice(
        step=choices[0].step,
        seconds=sum(choice.seconds for choice in choices) / count,
        shares={domain.value: sum(choice.shares[domain] for choice in choices) / count for domain in Domain},
    )


def _mark(loss: float, best: float) -> str:
    return f"[bold]{loss:.3f}[/]" if loss == best else f"{loss:.3f}"


def _table(title: str, *columns: str) -> Table:
    """A table; a column whose name begins with ``>`` is set to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return table
