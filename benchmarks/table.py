"""Gather the figures that the other scripts kept into the rows of ``rows.yaml``, with whether each reaches its aim.

``--write`` keeps them as ``benchmarks/results/<date>-<machine>.json``, of which ``docs/performance.md`` is made.
"""

from __future__ import annotations

import datetime
import json
import operator
from pathlib import Path
from typing import Any

import figures
import yaml

ROWS = Path(__file__).with_name("rows.yaml")
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def gather(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its figure, what made it, and ``met``: whether the median reaches the aim, where there is one.

    Raises:
        SystemExit: if the figure was not measured.
    """
    file, _, name = row["figure"].partition("/")
    path = figures.RESULTS / f"{file}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"figures": {}}
    if name not in kept["figures"]:
        raise SystemExit(f"{path} has no figure {name!r}: nox -s bench measures it")
    found = kept["figures"][name]
    made_by = {key: kept[key] for key in ("command", "machine", "threads", "versions")}
    return {**row, **found, **made_by, "met": _met(row.get("reach"), found["median"])}


def _met(reach: str | None, median: float) -> bool | None:
    if reach is None:
        return None
    sign, _, limit = reach.partition(" ")
    return bool(COMPARE[sign](median, float(limit)))


def main() -> None:
    """Print the rows and, if asked, write them."""
    options = figures.parser(__doc__).parse_args()
    sections = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    table = [{**part, "rows": [gather(row) for row in part["rows"]]} for part in sections]
    for part in table:
        print(f"\n{part['section']}")
        for row in part["rows"]:
            verdict = {None: "", True: "reached", False: "MISSED"}[row["met"]]
            print(f"  {row['what']:<48}{row['median']:>9.3f}  {row.get('reach', ''):<8}{verdict:<9}{row['beside']}")
    if options.write:
        path = figures.RESULTS / f"{datetime.datetime.now(tz=datetime.UTC).date()}-{figures.machine()}.json"
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        print(f"\nwrote {path.name}; docs/write_performance.py makes the page of it")


if __name__ == "__main__":
    main()
