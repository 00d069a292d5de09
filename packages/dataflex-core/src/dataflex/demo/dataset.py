"""Writing the data set in LlamaFactory's alpaca format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataflex.demo.row import Domain, Row

DOMAINS_FILE = "domains.json"

POOL = "pool"


def write(folder: Path, splits: Mapping[str, Sequence[Row]]) -> None:
    """Write one file per split, ``dataset_info.json``, and each row's domain.

    LlamaFactory drops extra columns, so the domains lie beside the data: ``domains.json`` maps a data set to the
    domains of its rows, in their order. The pool is written a second time in parts, ``pool_<domain>``, for mixing.

    Args:
        folder: LlamaFactory's ``dataset_dir``.
        splits: Rows by data set name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {f"{POOL}_{domain}": [row for row in splits[POOL] if row.domain is domain] for domain in Domain}
    everything = {**splits, **parts}
    for name, rows in everything.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"instruction": row.question, "input": "", "output": row.answer}) + "\n")
    _write_json(folder / "dataset_info.json", {name: {"file_name": f"{name}.jsonl"} for name in everything})
    _write_json(folder / DOMAINS_FILE, {name: [row.domain for row in rows] for name, rows in everything.items()})


def read_domains(folder: Path, name: str = POOL) -> list[Domain]:
    """The domain of each row of a data set, in the order of its file."""
    stored = json.loads((folder / DOMAINS_FILE).read_text(encoding="utf-8"))
    return [Domain(domain) for domain in stored[name]]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
