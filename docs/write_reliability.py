"""Write ``docs/reliability.md`` from what tests of faults saw: ``nox -s faults``, then ``nox -s docs -- --write``.

A test fails when the page is not what ``benchmarks/results/faults.json`` says, or a marked test is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = Path(__file__).parent / "reliability.md"
_HEADS = ("what happens", "what you are told", "what is kept", "test")
_LONGEST = 700


def page() -> str:
    """The whole page."""
    seen = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = list({record["fault"]: record for record in reversed(seen)}.values())[::-1]
    return (
        "<!-- Made from benchmarks/results/faults.json by `nox -s docs -- --write`; its text is in "
        "docs/write_reliability.py. -->\n# Reliability\n\n"
        "What a run may meet, what it says, and what is left of it. Each row was seen by the test it names, which runs "
        "with all others; `nox -s faults` runs these alone and keeps what they saw, `nox -s docs -- --write` makes "
        "this page. Paths are shortened.\n\n"
        "A run that ended badly goes on with the same command and `resume_from_checkpoint: true`, from the newest "
        "checkpoint that is whole: [Resume](resume.md) says what a checkpoint holds. Errors that are yours to mend are "
        "printed without a traceback, with exit code 2.\n\n" + _table(rows) + "\n"
    )


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [_line(_HEADS), _line(["---"] * len(_HEADS))]
    for row in rows:
        file, _, name = row["test"].partition("::")
        told = row["told"] if len(row["told"]) <= _LONGEST else row["told"][:_LONGEST] + " ..."
        told = told.replace("`", "'")
        test = f"[{name.removeprefix('test_').replace('_', ' ')}](../{file})"
        lines.append(_line([row["fault"], f"`{told}`", row["kept"], test]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
