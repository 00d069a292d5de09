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
_LONGEST = 700


def page() -> str:
    """The whole page."""
    seen = json.loads(RESULTS.read_text(encoding="utf-8"))
    faults, inputs = (_first_of_each(seen, kind) for kind in ("fault", "bad_input"))
    return (
        "<!-- Made from benchmarks/results/faults.json by `nox -s docs -- --write`; its text is in "
        "docs/write_reliability.py. -->\n# Reliability\n\n"
        "What a run may meet, what it says, and what is left of it. Each row was seen by the test it names, which runs "
        "with all others; `nox -s faults` runs these alone and keeps what they saw, `nox -s docs -- --write` makes "
        "this page. Paths are shortened.\n\n"
        "A run that ended badly goes on with the same command and `resume_from_checkpoint: true`, from the newest "
        "checkpoint that is whole: [Resume](resume.md) says what a checkpoint holds, and which runs (`save_only_model: "
        "true`) write none that can be resumed and promise none. Errors that are yours to mend are "
        "printed without a traceback, with exit code 2.\n\n"
        "So is whatever LlamaFactory, transformers and the libraries below them raise: a data set that cannot be "
        "loaded, by its name and, where one row is at fault, with the row; a callback, an evaluation or an optimizer "
        "that fails, with its name and the step. The last five calls before such an error are in `dataflex/error.log` "
        "of the output directory (`work/error.log` of `dataflex score`), which is replaced at each failure. "
        "`--debug`, which every command takes, or `DATAFLEX_DEBUG=1` shows the whole traceback after the sentence, on "
        "every rank. A row is named only if it fails alone, too. An error inside DataFlex keeps its traceback, ends "
        "with exit code 1 and asks for a report. In Python, `dynamic_trainer` leaves the types of all errors as they "
        "are.\n\n"
        "## Faults\n\n"
        + _table(("what happens", "what you are told", "what is kept", "test"), faults, ("fault", "told", "kept"))
        + "\n\n## Bad input\n\n"
        "All of these are found before a model loads. Beside these examples, tests send a thousand mutated run files, "
        "presets and records through the same code (`tests/bad_input`): each gives the run that was asked for, or an "
        "error like these. What LlamaFactory checks only later is listed in [Configuration](configuration.md).\n\n"
        + _table(("where", "what is wrong", "what you are told", "test"), inputs, ("file", "bad_input", "told"))
        + "\n"
    )


def _first_of_each(seen: Sequence[Mapping[str, str]], kind: str) -> list[Mapping[str, str]]:
    named = [record for record in reversed(seen) if kind in record]
    return list({(record.get("file"), record[kind]): record for record in named}.values())[::-1]


def _table(heads: Sequence[str], rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        file, _, name = row["test"].partition("::")
        cells = [_code(row[column]) if column == "told" else row[column] for column in columns]
        lines.append(_line([*cells, f"[{name.removeprefix('test_').replace('_', ' ')}](../{file})"]))
    return "\n".join(lines)


def _code(told: str) -> str:
    shortened = told if len(told) <= _LONGEST else f"{told[:_LONGEST]} ..."
    return f"`{shortened.replace('`', chr(39))}`"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
