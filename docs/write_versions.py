"""Write ``docs/versions.md`` from ``docs/versions.json``, which ``nox -s upstream -- --write`` keeps.

A test fails when the page is not what the results say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex.bridge.versions import UNCHECKED, advice

RESULTS = Path(__file__).parent / "versions.json"
PAGE = Path(__file__).parent / "versions.md"
_HEADS = ("LlamaFactory", "transformers", "peft", "TRL", "seam tests", "training and resume", "verdict")


def page() -> str:
    """The whole page."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    works = [row for row in kept["rows"] if row["supported"]]
    refused = [row for row in kept["rows"] if not row["supported"]]
    tried_on = f"on {kept['date']}, with Python {kept['python']} and torch {kept['torch']}, on a CPU"
    parts = [
        "<!-- Made from docs/versions.json by `nox -s docs -- --write`; the text is in docs/write_versions.py. -->\n"
        "# Versions",
        "Which versions of LlamaFactory and transformers DataFlex works with, as found by `nox -s upstream -- --write` "
        f"{tried_on}. For each pair it makes an environment, runs the tests of the seams to LlamaFactory, trains "
        "through `dataflex train`, and resumes a run to the same weights. The last row is [without "
        "LlamaFactory](without_llamafactory.md): a plain `transformers.Trainer`, with the newest "
        "transformers there was.",
        _table(_HEADS, [_works(row) for row in works]),
        "Versions between the two ends of a range are accepted and are not each tried. TRL's `SFTTrainer` and several "
        "GPUs are tested with the versions of `constraints.txt` alone.",
        "## What is refused",
        "Pairs outside these ranges end `dataflex train`, `score` and `check-run` before anything loads, and fail "
        f"`dataflex doctor`. {advice()}",
        f"`{UNCHECKED}=1`, LlamaFactory's own variable, turns the refusal into a warning. What then happened to one "
        "short run:",
        _table(
            ("LlamaFactory", "transformers", f"with {UNCHECKED}=1"),
            [(row["llamafactory"], row["transformers"], _cell(row["tried"])) for row in refused],
        ),
        "A LlamaFactory that is not in the tables is tried, with a warning: if one of its seams has moved, the error "
        "names the symbol.",
    ]
    return "\n\n".join(parts) + "\n"


def _works(row: Mapping[str, Any]) -> tuple[str, ...]:
    verdict = "works" if row["as_promised"] else "**fails**"
    names = (row["llamafactory"] or "none", row["transformers"], row["peft"], row["trl"])
    return (*names, row["seams"] or "none needed", row["training"], verdict)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ("---",) * len(heads), *rows))


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
