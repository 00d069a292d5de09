"""Selectors here beside those of PyPI's ``dataflex`` 1.1.0: the same model, candidates and eval rows, end to end.

The two share an import name, so each runs in fresh processes of its own environment, alternately (``nox -s bench
-- peers`` makes the other one). Timed is one call of ``select``, in CPU seconds of that process and its loader
workers; imports are not. The peer runs at its defaults: LESS at width 8192 and in half precision, scoring by loss one
row at a time. Each pair of the peer's LESS takes minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import figures
from less import Rows, adapted_model, pad

VALIDATION, CHOSEN = 4, 8
SIDES = ("ours", "peer")


@dataclass(frozen=True)
class Case:
    """A selector with what it chooses among and the model it scores with."""

    component: str
    candidates: int
    hidden: int = 256
    layers: int = 6
    longest: int = 260


CASES = {
    "loss": Case("loss", 256),
    "loss, small model": Case("loss", 1024, hidden=64, layers=2, longest=60),
    "less": Case("less", 32),
}


def run_one_side(case: Case) -> dict[str, Any]:
    """Select once with whichever ``dataflex`` this environment has."""
    model, optimizer = adapted_model(case.hidden, case.layers)
    rows, goals = Rows(case.candidates, seed=1, longest=case.longest), Rows(VALIDATION, seed=2)
    pool = [rows[row] for row in range(case.candidates)]
    make = _ours if importlib.util.find_spec("dataflex_selectors_less") is not None else _peer
    with tempfile.TemporaryDirectory() as folder:
        select = make(case.component, pool, goals, optimizer, Path(folder))
        began = os.times()
        rows = select(model)
        ended = os.times()
    spent = sum(ended[:4]) - sum(began[:4])
    return {"cpu_seconds": spent, "wall_seconds": ended.elapsed - began.elapsed, "rows": sorted(rows)}


def _ours(component: str, pool: Any, goals: Any, optimizer: Any, folder: Path) -> Any:
    from dataflex.testing import make_context

    context = make_context(pool, pad, cache_dir=folder, eval_datasets={"eval": goals}, optimizer=lambda: optimizer)
    selector: Any
    if component == "less":
        from dataflex_selectors_less.params import LessParams
        from dataflex_selectors_less.selector import LessSelector

        selector = LessSelector(LessParams(), context)
    else:
        from dataflex_selectors_loss.params import LossParams
        from dataflex_selectors_loss.selector import LossSelector

        selector = LossSelector(LossParams(), context)
    return lambda model: [int(row) for row in selector.select(model, 8, CHOSEN).rows]


def _peer(component: str, pool: Any, goals: Any, optimizer: Any, folder: Path) -> Any:
    from accelerate import Accelerator

    selector: Any
    if component == "less":
        from dataflex.train.selector.less_selector import LessSelector

        selector = LessSelector(pool, goals, Accelerator(cpu=True), pad, str(folder))
    else:
        from dataflex.train.selector.loss_selector import LossSelector

        selector = LossSelector(pool, Accelerator(cpu=True), pad_with_indices, str(folder))
    return lambda model: selector.select(model, 8, CHOSEN, optimizer_state=optimizer.state)


def pad_with_indices(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The collator of the peer's loss selector is given each row's index and hands it on."""
    import torch

    return {**pad(rows), "idx": torch.tensor([row["idx"] for row in rows])}


def measure(name: str, peer: str, runs: int) -> dict[str, dict[str, float]]:
    """Alternate the two environments."""
    pythons = {"ours": sys.executable, "peer": peer}
    pairs: list[dict[str, dict[str, Any]]] = []
    for run in range(runs):
        order = SIDES if run % 2 else SIDES[::-1]
        command = (__file__, "--case", name)
        pairs.append(
            {side: figures.in_a_process(*command, python=pythons[side], OMP_NUM_THREADS="1") for side in order}
        )
        print(f"{name}: " + ", ".join(f"{side} {pairs[-1][side]['cpu_seconds']:.1f} s" for side in SIDES), flush=True)
    times = {side: [pair[side]["cpu_seconds"] for pair in pairs] for side in SIDES}
    both = [len({*pair["ours"]["rows"]} & {*pair["peer"]["rows"]}) for pair in pairs]
    return {
        **{f"{name}: {side}, CPU seconds": figures.figure(spent) for side, spent in times.items()},
        f"{name}: times faster": figures.figure([theirs / own for own, theirs in zip(*times.values(), strict=True)]),
        f"{name}: of {CHOSEN} chosen rows, the same": figures.figure(both),
    }


def main() -> None:
    """Measure all cases, or run one side of one once."""
    parser = figures.parser(__doc__)
    parser.add_argument("--peer", help="Python of an environment with dataflex 1.1.0; without it, run one side")
    parser.add_argument("--case", choices=CASES, help="only this one")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs")
    options = parser.parse_args()
    if not options.peer:
        print(json.dumps(run_one_side(CASES[options.case])))
        return
    for name in [options.case] if options.case else CASES:
        found = measure(name, options.peer, options.runs)
        figures.show(found)
        if options.write:
            details = {"validation": VALIDATION, "chosen": CHOSEN, **asdict(CASES[name])}
            figures.keep("peer_" + name.replace(", ", "_").replace(" ", "_"), found, **details)


if __name__ == "__main__":
    main()
