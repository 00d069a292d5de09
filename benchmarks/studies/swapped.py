"""Data of the study ``swapped.yaml``: docstrings of the standard library, half of the pool with another's answer.

    python benchmarks/studies/swapped.py --seed 42 --out studies/swapped/data/42    data and pretrained model of a seed
    python benchmarks/studies/swapped.py --share OUTPUT_DIR                         the share of swapped rows, as JSON

Words do not tell a swapped row from a clean one: both are docstrings, and each answer is some docstring's. What tells
them apart is whether the answer is that question's. Nor do words tell the eval sets from the pool: all are drawn from
the same modules. (In a pool with other domains, words would tell docstrings from code.)
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataflex.decisions import DecisionLog
from dataflex.demo import chat, corpus
from dataflex.demo.build import build_data, build_model
from dataflex.demo.row import Domain, Row
from dataflex.demo.runs import Paths
from dataflex.demo.settings import CUTOFF, Settings
from dataflex.record.run import RunRecord

POOL, CLEAN, SWAPPED = 1600, "clean", "swapped"


def swap(rows: Sequence[Row]) -> list[Row]:
    """Give each row the answer of another of like length: neighbours by length exchange theirs.

    Args:
        rows: An even number of them.
    """
    order = sorted(range(len(rows)), key=lambda row: len(rows[row].answer))
    found = list(rows)
    for one, other in zip(order[::2], order[1::2], strict=True):
        found[one] = replace(rows[one], answer=rows[other].answer)
        found[other] = replace(rows[other], answer=rows[one].answer)
    return found


def divide(rows: Sequence[Row], seed: int, evaluation: int, validation: int) -> dict[str, list[tuple[Row, str]]]:
    """The data sets: pool, its clean half alone, eval set and validation set; with each row its kind.

    All are drawn from the same rows, none twice, so that a module is met in each of them: with modules of their own,
    the words of eval set and validation set would tell them from the pool.
    """
    draw = random.Random(seed)
    drawn = list(rows)
    draw.shuffle(drawn)
    held = {"docstrings": drawn[:evaluation], "validation": drawn[evaluation : evaluation + validation]}
    rest = drawn[evaluation + validation :]
    pool = rest[: min(POOL, len(rest) // 2 * 2)]
    half = len(pool) // 2
    clean, swapped = pool[:half], swap(pool[half:])
    mixed = [(row, CLEAN) for row in clean] + [(row, SWAPPED) for row in swapped]
    draw.shuffle(mixed)
    alone = [(row, kind) for row, kind in mixed if kind == CLEAN]
    return {"pool": mixed, "clean": alone, **{name: [(row, CLEAN) for row in found] for name, found in held.items()}}


def prepare(seed: int, out: Path) -> None:
    """Write data and model of a seed."""
    settings, paths = Settings.choose(seed, quick=False), Paths(out)
    data = build_data(settings, paths, {})
    build_model(data, settings, paths, {})
    rows = [row for row in corpus.read_rows(settings) if row.domain is Domain.DOCSTRINGS]
    sets = divide(rows, seed, settings.evaluation, settings.validation)
    folder = out / "swapped"
    folder.mkdir(exist_ok=True)
    for name, found in sets.items():
        lines = []
        for row, _ in found:
            fitted = chat.fit(row, data.tokenizer, CUTOFF)
            lines.append(json.dumps({"instruction": fitted.question, "input": "", "output": fitted.answer}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    info = {name: {"file_name": f"{name}.jsonl"} for name in sets}
    kinds = {name: [kind for _, kind in found] for name, found in sets.items()}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    (folder / "domains.json").write_text(json.dumps(kinds) + "\n", encoding="utf-8")
    print({name: len(found) for name, found in sets.items()})


def share(output_dir: Path) -> float:
    """The share of swapped rows among those that a run has chosen at its boundaries."""
    info = RunRecord(output_dir).info()
    assert info is not None
    kinds = json.loads(Path(info.arguments["dataset_dir"], "domains.json").read_text(encoding="utf-8"))
    swapped = np.array([kind == SWAPPED for kind in kinds[info.arguments["dataset"]]])
    chosen = [
        np.load(output_dir / decision.result_ref, allow_pickle=False).reshape(-1)
        for decision in DecisionLog(output_dir)
        if decision.result_ref
    ]
    return float(swapped[np.concatenate(chosen)].mean()) if chosen else float(swapped.mean())


def main() -> None:
    """Write the data of a seed, or print the share of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--share", type=Path, metavar="OUTPUT_DIR")
    options = parser.parse_args()
    if options.share is not None:
        print(json.dumps({"swapped_share": share(options.share)}))
    elif options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        prepare(options.seed, options.out.resolve())
    else:
        parser.error("--out or --share")


if __name__ == "__main__":
    main()
