"""What ``--dry-run`` of a project prints."""

from __future__ import annotations

from collections.abc import Sequence

from dataflex.console import print_json, print_table
from dataflex.phases.model_size import parameters, spell
from dataflex.phases.phase import Phase
from dataflex.phases.progress import progress


def show(phases: Sequence[Phase], *, as_json: bool) -> None:
    """Print each phase with its model's size, its length and how far it has come.

    Args:
        phases: In order; one at least.
        as_json: JSON in place of a table.
    """
    from rich.table import Table

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
