"""What it costs to measure whether batches give rows the gradients they have alone, as a share of a pass of LESS.

One process, the model, rows and token budget of less.py. Batches that are looked at run with and without their rows
alone; the pass is taken from a few batches between. CPU seconds; set OMP_NUM_THREADS=1. Prints one line.
"""

from __future__ import annotations

import time
from typing import Any

from less import Rows, adapted_model, pad

ROWS, TOKENS, EVERY = 2000, 2048, 40


def seconds(engine: Any, batch: Any, sink: Any, alone: Any = None) -> float:
    """CPU seconds of one batch."""
    began = time.process_time()
    engine.attempt(lambda: engine.feed(batch, sink, alone))
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
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
    whole = spent / sampled * ROWS
    print(
        f"{count} batches looked at: {extra:.2f} s beside {whole:.1f} s of a pass of {ROWS} rows, {extra / whole:.2%}"
    )


if __name__ == "__main__":
    main()
