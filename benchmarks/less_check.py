"""What it costs to measure whether batches give rows the gradients they have alone, as a share of a pass of LESS.

Fresh processes, the model, rows and token budget of less.py. Batches that are looked at run with and without their rows
alone; the pass is taken from a few batches between. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import figures
from less import Rows, adapted_model, pad

ROWS, TOKENS, EVERY = 2000, 2048, 40


def seconds(engine: Any, batch: Any, sink: Any, alone: Any = None) -> float:
    """CPU seconds of one batch."""
    began = time.process_time()
    engine.attempt(lambda: engine.feed(batch, sink, alone))
    return time.process_time() - began


def measure() -> dict[str, float]:
    """Batches that are looked at, CPU seconds that costs, and those of the pass."""
    import torch

    from dataflex.data.scoring_loader import ScoringLoader
    from dataflex.gradients.coverage import Scope, cover
    from dataflex.gradients.engine import GradientEngine
    from dataflex.gradients.moments import adam_moments
    from dataflex.gradients.preconditioning import PreconditioningSink
    from dataflex.gradients.sinks import ScoreSink, empty_directions

    model, optimizer = adapted_model(256, 6)
    coverage = cover(model, Scope.ALL)
    goals = empty_directions(
        {name: value.numel() for name, value in coverage.parameters.items()}, 1, torch.device("cpu")
    )
    sink = PreconditioningSink(ScoreSink(goals), adam_moments(optimizer, coverage.parameters), "official")
    engine = GradientEngine(model, coverage)
    loader = ScoringLoader(Rows(ROWS, seed=1), pad, range(ROWS), token_budget=TOKENS, uneven_first=True)
    extra, sampled, spent, count = 0.0, 0, 0.0, 0
    for number, (rows, batch) in enumerate(loader):
        alone = loader.alone(rows)
        if alone:
            if not number:
                seconds(engine, batch, sink)  # warms up
            extra += seconds(engine, batch, sink, alone) - seconds(engine, batch, sink)
        elif number % EVERY == EVERY // 2:
            spent += seconds(engine, batch, sink)
            sampled += len(rows)
        count += bool(alone)
    return {"batches": count, "check": extra, "pass": spent / sampled * ROWS}


def main() -> None:
    """Measure in fresh processes and print, or with ``--write`` keep, the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        print(json.dumps(measure()))
        return
    found = [figures.in_a_process(__file__, "--in-process", OMP_NUM_THREADS="1") for _ in range(given.runs)]
    kept = {
        "batches looked at": figures.figure([run["batches"] for run in found]),
        "check, CPU seconds": figures.figure([run["check"] for run in found]),
        "pass, CPU seconds": figures.figure([run["pass"] for run in found]),
        "check over the pass": figures.figure([run["check"] / run["pass"] for run in found]),
    }
    figures.show(kept)
    if given.write:
        figures.keep("less_check", kept)


if __name__ == "__main__":
    main()
