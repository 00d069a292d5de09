"""What scoring a pool costs: the loss selector beside plain forward passes, two ranks beside one, and larger pools.

Beside a plain pass: one process, a Qwen2 of hidden size 256 and 6 layers, rows of 20 to 260 tokens. A selection of the
loss selector, from the rows to the chosen ones, and plain forward passes over the same batches, which are collated
before the clock starts, take turns; CPU seconds, on one thread.
Ranks: the same selection on one and on two processes of one thread each, alternately, by the wall clock, imports and
model left out. It needs as many free cores.
Growth: seconds a row at three pool sizes, with a model of hidden size 64 and 2 layers, for ``loss`` and ``less``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import figures
from less import Rows, adapted_model, pad

POOLS = (500, 2_000, 8_000)
CHOSEN = 32


def context(pool: Any, optimizer: Any, accelerator: Any = None) -> Any:
    """What a selector is told of a run over this pool."""
    from dataflex.testing import make_context

    return make_context(
        pool,
        pad,
        eval_datasets={"eval": Rows(32, seed=2)},
        optimizer=lambda: optimizer,
        accelerator=accelerator,
    )


def loss_selector(of: Any) -> Any:
    """The loss selector at its defaults."""
    from dataflex_selectors_loss.params import LossParams
    from dataflex_selectors_loss.selector import LossSelector

    return LossSelector(LossParams(), of)


def less_selector(of: Any) -> Any:
    """LESS at its defaults, keeping nothing on the disk."""
    from dataflex_selectors_less.params import LessParams
    from dataflex_selectors_less.selector import LessSelector

    return LessSelector(LessParams(shard_seconds=0), of)


def seconds(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    """What a call takes."""
    began = clock()
    call()
    return clock() - began


def beside_plain(count: int, runs: int) -> dict[str, dict[str, float]]:
    """Throughput of the loss selector over that of plain forward passes."""
    import torch

    from dataflex.data.scoring_loader import ScoringLoader

    model, optimizer = adapted_model(256, 6)
    rows = Rows(count, seed=1)
    pool = [rows[row] for row in range(count)]
    batches = [batch for _, batch in ScoringLoader(pool, pad, range(count))]
    selector = loss_selector(context(pool, optimizer))

    def plain() -> None:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                model(**batch)
        model.train()

    def select() -> None:
        selector.select(model, 8, CHOSEN)

    for way in (plain, select):
        way()  # warms caches; not counted
    pairs = []
    for run in range(runs):
        spent = {way: seconds(way, time.process_time) for way in ((plain, select) if run % 2 else (select, plain))}
        pairs.append((spent[plain], spent[select]))
    return {
        "loss over plain forward": figures.figure([plain / select for plain, select in pairs]),
        "loss, rows a CPU second": figures.figure([count / select for _, select in pairs]),
    }


def on_this_rank(count: int) -> None:
    """Print the wall-clock seconds of a selection over all ranks; runs under torchrun."""
    from accelerate import Accelerator

    from dataflex.distributed import end_rank

    accelerator = Accelerator(cpu=True)
    model, optimizer = adapted_model(256, 6)
    rows = Rows(count, seed=1)
    selector = loss_selector(context([rows[row] for row in range(count)], optimizer, accelerator))
    selector.select(model, 7, CHOSEN)  # warms caches; not counted
    accelerator.wait_for_everyone()
    spent = seconds(lambda: selector.select(model, 8, CHOSEN), time.perf_counter)
    if accelerator.is_main_process:
        print(json.dumps(spent), flush=True)
    end_rank()


def two_ranks(count: int, runs: int) -> dict[str, dict[str, float]]:
    """How much faster two ranks score than one."""
    ratios = []
    for run in range(runs):
        spent = {ranks: _on_ranks(ranks, count) for ranks in ((1, 2) if run % 2 else (2, 1))}
        ratios.append(spent[1] / spent[2])
    return {"two ranks over one": figures.figure(ratios)}


def _on_ranks(ranks: int, count: int) -> float:
    launch = ("torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", __file__)
    found = figures.in_a_process("-m", *launch, "--rank-of", str(count), OMP_NUM_THREADS="1")
    return float(found)


def growth(runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds a row at each pool size."""
    model, optimizer = adapted_model(64, 2)
    found = {}
    for name, make in (("loss", loss_selector), ("less", less_selector)):
        make(context(Rows(64, seed=1), optimizer)).select(model, 8, CHOSEN)  # warms caches; not counted
        for count in POOLS:
            rows = Rows(count, seed=1, longest=60)
            select = make(context([rows[row] for row in range(count)], optimizer)).select
            spent = [seconds(partial(select, model, 8, CHOSEN), time.process_time) for _ in range(runs)]
            found[f"{name}, ms a row of {count}"] = figures.figure([1e3 * each / count for each in spent])
    return found


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--rows", type=int, default=512, help="of the pool, beside a plain pass and over ranks")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs")
    parser.add_argument("--rank-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        on_this_rank(options.rank_of)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = beside_plain(options.rows, options.runs)
    found |= two_ranks(options.rows, options.runs)
    found |= growth(min(options.runs, 3))
    figures.show(found)
    if options.write:
        figures.keep("scoring", found, rows=options.rows)


if __name__ == "__main__":
    main()
