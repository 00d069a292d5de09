"""What ``statistics: batch`` of the weighter ``loss`` costs under accumulation, where each micro-batch runs twice.

The stock Trainer, the weighter with ``statistics: window`` and with ``statistics: batch`` take turns in one process.
A figure is the ratio of the median step times to the stock ones, by the process's own CPU clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile

import figures
import steps

ROWS_A_STEP = 8


def ratios(shape: str, accumulation: int, rounds: int) -> dict[str, float]:
    """Ratios to the stock steps of 8 rows, cut into ``accumulation`` micro-batches."""
    weighted = steps.KINDS["weighted"]
    kinds = {
        steps.STOCK: {},
        "window": {**weighted, "component_params": {"window": 1}},
        "batch": {**weighted, "component_params": {"statistics": "batch"}},
    }
    steps.KINDS.update(kinds)
    times = {kind: steps.StepTimes() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            kind: steps.make(
                kind, folder, vocabulary=259, length=steps.LENGTH, max_steps=steps.ROUND_STEPS,
                per_device_train_batch_size=ROWS_A_STEP // accumulation, gradient_accumulation_steps=accumulation,
                **steps.MODELS[shape],
            )
            for kind in kinds
        }  # fmt: skip
        for trainer in trainers.values():
            trainer.train()  # warms caches; not counted
        for kind, trainer in trainers.items():
            trainer.add_callback(times[kind])
        for number in range(rounds):
            for kind in list(trainers)[:: 1 if number % 2 else -1]:
                trainers[kind].train()
    medians = {kind: statistics.median(found.cpu) for kind, found in times.items()}
    return {kind: medians[kind] / medians[steps.STOCK] for kind in ("window", "batch")}


def main() -> None:
    """Measure in fresh processes and print, or with ``--write`` keep, the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shape", default="tiny", choices=steps.MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accumulation", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--in-process", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        print(json.dumps(ratios(given.shape, given.in_process, given.rounds)))
        return
    kept = {}
    for accumulation in given.accumulation:
        asked = ("--in-process", str(accumulation), "--shape", given.shape, "--rounds", str(given.rounds))
        found = [figures.in_a_process(__file__, *asked, OMP_NUM_THREADS="1") for _ in range(given.runs)]
        for kind in ("window", "batch"):
            name = f"{given.shape}, accumulation {accumulation}: {kind}"
            kept[name] = figures.figure([run[kind] for run in found])
    figures.show(kept)
    if given.write:
        figures.keep("whole_steps", kept)


if __name__ == "__main__":
    main()
