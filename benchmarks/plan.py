"""What planning a mixture costs: a plan over 1,000 domains, at three sizes, in samples and in tokens.

Each plan is made in a fresh process: domains of equal size and uneven proportions, rows drawn without repeating before
a domain is read through, shuffled within batches of 512. Memory is the peak of the process above what it held before,
less the plan itself (8 bytes a row).
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import figures

DOMAINS, BATCH = 1_000, 512
SIZES = (1_024_000, 3_072_000, 10_240_000)
TOKEN_SIZES = (128_000, 384_000, 1_024_000)


def make_plan(rows: int, unit: str) -> dict[str, float]:
    """Seconds and peak memory of one plan in this process."""
    import numpy as np

    from dataflex.config.mixture import Unit
    from dataflex.mixing.batch_order import permute_global_batches
    from dataflex.mixing.sampler import MixtureSampler

    draw = np.random.default_rng(0)
    proportions = draw.dirichlet(np.ones(DOMAINS))
    sizes, names = [rows // DOMAINS] * DOMAINS, [f"domain-{k}" for k in range(DOMAINS)]
    lengths = draw.integers(20, 2000, rows) if unit == Unit.TOKENS else None
    before = _peak_megabytes()
    began, cpu = time.perf_counter(), time.process_time()
    sampler = MixtureSampler(sizes, names, seed=1, unit=Unit(unit), lengths=lengths)
    permute_global_batches(sampler.draw(proportions, rows), BATCH, 1, 0)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": spent, "cpu_seconds": cpu, "megabytes": _peak_megabytes() - before - 8 * rows / 1e6}


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=5, help="plans of each size")
    parser.add_argument("--plan-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--unit", default="samples", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan_of:
        print(json.dumps(make_plan(options.plan_of, options.unit)))
        return
    found = {}
    for unit, sizes in (("samples", SIZES), ("tokens", TOKEN_SIZES)):
        for size in sizes:
            plans = [
                figures.in_a_process(__file__, "--plan-of", str(size), "--unit", unit) for _ in range(options.runs)
            ]
            for key, name in (("seconds", "seconds"), ("cpu_seconds", "CPU seconds"), ("megabytes", "MB")):
                found[f"{unit}, {size} rows, {name}"] = figures.figure([plan[key] for plan in plans])
    figures.show(found)
    if options.write:
        figures.keep("plan", found, domains=DOMAINS, batch=BATCH)


if __name__ == "__main__":
    main()
