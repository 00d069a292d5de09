"""LESS here beside the LESS of PyPI's ``dataflex`` 1.1.0: the same model, candidates and eval rows, end to end.

The two share an import name, so each runs in fresh processes of its own environment, alternately (the session
``bench_peers`` makes the other one). Timed is one call of ``select``, in CPU seconds of that process; imports are not.
The peer runs at its default width (8192) and in half precision, as it is written.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULT = HERE.parent / "results" / "less_peer.json"
CANDIDATES, VALIDATION, CHOSEN = 32, 4, 8


def run_one_side() -> dict[str, Any]:
    """Select once with whichever ``dataflex`` this environment has."""
    spec = importlib.util.spec_from_file_location("less_benchmark", HERE.parent / "less.py")
    assert spec is not None and spec.loader is not None
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    model, optimizer = common.adapted_model(256, 6)
    pool, goals = common.Rows(CANDIDATES, seed=1), common.Rows(VALIDATION, seed=2)
    ours = importlib.util.find_spec("dataflex_selectors_less") is not None
    make = _ours if ours else _peer
    with tempfile.TemporaryDirectory() as folder:
        select = make(pool, goals, common.pad, optimizer, Path(folder))
        began, wall = time.process_time(), time.perf_counter()
        rows = select(model)
        spent, wall = time.process_time() - began, time.perf_counter() - wall
    return {"side": "ours" if ours else "peer", "cpu_seconds": spent, "wall_seconds": wall, "rows": sorted(rows)}


def _ours(pool: Any, goals: Any, collator: Any, optimizer: Any, folder: Path) -> Any:
    from dataflex.components.context import RunContext
    from dataflex_selectors_less.params import LessParams
    from dataflex_selectors_less.selector import LessSelector

    context = RunContext(
        dataset=pool,
        data_collator=collator,
        cache_dir=folder,
        eval_datasets={"eval": goals},
        optimizer=lambda: optimizer,
    )
    less = LessSelector(LessParams(), context)
    return lambda model: [int(row) for row in less.select(model, 8, CHOSEN).rows]


def _peer(pool: Any, goals: Any, collator: Any, optimizer: Any, folder: Path) -> Any:
    from accelerate import Accelerator

    from dataflex.train.selector.less_selector import LessSelector

    less = LessSelector(pool, goals, Accelerator(cpu=True), collator, str(folder))
    return lambda model: less.select(model, 8, CHOSEN, optimizer_state=optimizer.state)


def main() -> None:
    """Alternate the two environments, print a table and, if asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python of an environment with dataflex 1.1.0; without it, run one side")
    parser.add_argument("--runs", type=int, default=2, help="runs of each side")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(HERE.parents[1])}")
    options = parser.parse_args()
    if not options.peer:
        print(json.dumps(run_one_side()))
        return
    found = [_run(python) for _ in range(options.runs) for python in (sys.executable, options.peer)]
    sides = {side: [run for run in found if run["side"] == side] for side in ("ours", "peer")}
    medians = {side: statistics.median(run["cpu_seconds"] for run in runs) for side, runs in sides.items()}
    for side, median in medians.items():
        print(f"{side:<6}{median:>9.2f} CPU seconds, median of {len(sides[side])} selections")
    print(f"{CANDIDATES} candidates, {VALIDATION} eval rows: {medians['peer'] / medians['ours']:.0f} times faster")
    common = set(sides["ours"][0]["rows"]) & set(sides["peer"][0]["rows"])
    print(f"{len(common)} of {CHOSEN} chosen rows are the same")
    if options.write:
        facts = {"candidates": CANDIDATES, "validation": VALIDATION, "chosen": CHOSEN, "chosen_by_both": len(common)}
        text = json.dumps({**facts, "medians": medians, "runs": found}, indent=1)
        RESULT.write_text(text + "\n", encoding="utf-8")


def _run(python: str) -> dict[str, Any]:
    environment = {**os.environ, "DISABLE_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    command = [python, __file__]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
