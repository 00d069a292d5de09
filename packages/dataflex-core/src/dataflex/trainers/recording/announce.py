"""What the terminal shows of a decision: a small table on a terminal, one line in a log file."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.table import Table

from dataflex.console import stderr
from dataflex.decisions import Decision

logger = logging.getLogger("dataflex")


def announce(decision: Decision, line: str, console: Console = stderr) -> None:
    """Say what was decided. Called on rank 0.

    Args:
        decision: What was decided.
        line: It in one line.
        console: Where a table is drawn, if it is a terminal.
    """
    if not console.is_terminal:
        logger.info("step %d: %s, in %.1f s", decision.step, line, decision.seconds)
    elif logger.isEnabledFor(logging.INFO):
        console.print(summary(decision))
    logger.debug("step %d: metrics %s", decision.step, dict(decision.metrics))


def summary(decision: Decision) -> Table:
    """A decision as a table: counts for a selector, one row a domain where there are domains."""
    title = f"Step {decision.step}: {decision.kind} {decision.component}, {decision.seconds:.1f} s"
    return (_of_domains if decision.metrics.get("proportions") else _of_selection)(decision, title)


def _of_selection(decision: Decision, title: str) -> Table:
    metrics, scores = decision.metrics, decision.scores
    cells = {name: f"{metrics[name]:,}" for name in ("selected", "distinct", "pool") if name in metrics}
    if "overlap" in metrics:
        cells["as before"] = f"{metrics['overlap']:.1%}"
    if "mean" in scores:
        cells["mean score"] = f"{scores['mean']:.4g}"
    if scores.get("nan"):
        cells["not scored"] = f"{scores['nan']:,}"
    table = Table(title=title, title_justify="left")
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def _of_domains(decision: Decision, title: str) -> Table:
    columns = {"proportions": "asked for", "realised_samples": "samples", "realised_tokens": "tokens"}
    known = {name: values for name in columns if isinstance(values := decision.metrics.get(name), list)}
    epochs, losses = decision.metrics.get("epochs"), decision.metrics.get("domain_losses")
    table = Table("domain", title=title, title_justify="left")
    for name in known:
        table.add_column(columns[name], justify="right")
    for name, values in (("passes", epochs), ("loss", losses)):
        if isinstance(values, list):
            table.add_column(name, justify="right")
    domains = decision.metrics["domains"]
    assert isinstance(domains, list)
    for place, domain in enumerate(domains):
        cells = [f"{values[place]:.1%}" for values in known.values()]
        cells += [_number(values[place]) for values in (epochs, losses) if isinstance(values, list)]
        table.add_row(str(domain), *cells)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
