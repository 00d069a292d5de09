"""What selection buys on the demo's text: losses at equal steps, and beside random selection at equal working time.

For each seed: the demo's data and pretrained model, then one process a run. A run's cost is counted in steps of its
own: the seconds of training and scoring over those of a step, so that it does not matter if the machine is busier in
one run than another. Random selection runs at several lengths; its loss at another run's cost is interpolated
between them (linearly in the logarithm of the steps); above the longest it is that of the longest. Figures are means
over the seeds; beside random selection they are kept for each seed.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import numpy as np

from dataflex.demo import process, results
from dataflex.demo.build import build_data, build_model, write_run_files
from dataflex.demo.results import RunResult
from dataflex.demo.runs import TARGET, VALIDATION, DemoRun, Paths
from dataflex.demo.settings import Settings

LESS = {"targets": [VALIDATION], "parameters": "linear", "history": True}


@dataclass(frozen=True)
class Variant:
    """A run: a selector and its schedule, past the demo's warm-up of 20 steps."""

    component: str
    times: int = 3
    update: int = 30
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """As the table shows it."""
        return f"{self.component}, {self.times} x {self.update}{self.note}"

    @property
    def run(self) -> DemoRun:
        """The demo's description of it."""
        file = "".join(char if char.isalnum() else "_" for char in self.name)
        aims_at = VALIDATION if self.component == "less" else ""
        return DemoRun(name=file, component=self.component, params=self.params, aims_at=aims_at)


VARIANTS = (
    *(Variant("random", times) for times in (1, 3, 6, 12, 24)),
    Variant("loss", params={"mode": "top"}),
    Variant("less", params=LESS),
    Variant("less", params={**LESS, "history": False}, note=", no history"),
    Variant("less", params={**LESS, "max_candidates": 800}, note=", 800 candidates"),
    Variant("less", params={**LESS, "max_candidates": 400}, note=", 400 candidates"),
    Variant("less", 1, 30, LESS),
    Variant("less", 1, 90, LESS),
    Variant("less", 4, 90, LESS),
)


def measure(seed: int, folder: Path, *, quick: bool) -> dict[str, RunResult]:
    """All runs of a seed, by name."""
    settings, paths = Settings.choose(seed, quick=quick), Paths(folder)
    data = build_data(settings, paths, {})
    build_model(data, settings, paths, {})
    finished = {}
    for variant in VARIANTS:
        longest = settings.pool // settings.batch  # a stage reads no row twice
        schedule = dataclasses.replace(settings, update=min(variant.update, longest), times=variant.times)
        several_devices = write_run_files([variant.run], schedule, paths)
        wall = process.train(
            paths.run_file(variant.run),
            output_dir=paths.output(variant.run),
            log=paths.log(variant.run),
            environ=process.environment(os.environ, several_devices=several_devices),
            report=lambda *state: None,
        )
        found = results.read(variant.run, paths, data.pool_domains, wall)
        print(f"seed {seed}: {variant.name}: {found.target_loss:.3f}, {found.working_seconds:.1f} s", flush=True)
        finished[variant.name] = found
    return finished


def cost(run: RunResult) -> float:
    """Optimizer steps that would have taken as long as the run's steps and scoring."""
    return run.steps * run.working_seconds / run.training_seconds


def random_at(steps: float, runs: Mapping[str, RunResult]) -> float:
    """Random selection's loss on the target after so many steps; after its longest run's beyond that."""
    curve = sorted((run.steps, run.target_loss) for run in runs.values() if run.component == "random")
    lengths, losses = zip(*curve, strict=True)
    return float(np.interp(np.log(steps), np.log(lengths), losses))


def table(seeds: Sequence[Mapping[str, RunResult]]) -> dict[str, dict[str, Any]]:
    """Figures of each variant: means over the seeds, and in how many of them it was better than random."""
    rows = {}
    for variant in VARIANTS:
        runs = [runs[variant.name] for runs in seeds]
        shares = [choice.shares.get(TARGET, 0.0) for run in runs for choice in run.choices]
        rows[variant.name] = {
            "steps": runs[0].steps,
            "target_loss": statistics.mean(run.target_loss for run in runs),
            "others_loss": statistics.mean(run.others_loss for run in runs),
            "cost_in_steps": statistics.mean(cost(run) for run in runs),
            "share_of_target": statistics.mean(shares),
            "below_random_at_equal_steps": gains(runs, seeds, lambda run: float(run.steps)),
            "below_random_at_equal_time": gains(runs, seeds, cost),
        }
    return rows


def gains(
    runs: Sequence[RunResult], seeds: Sequence[Mapping[str, RunResult]], length: Callable[[RunResult], float]
) -> list[float]:
    """How far each seed's run is below random selection of the same length, in nats per token of the target."""
    return [random_at(length(run), of) - run.target_loss for run, of in zip(runs, seeds, strict=True)]


def show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table; its last two columns say in how many seeds a run was better than random selection."""
    print(f"{'':<30}{'steps':>6}{'cost':>6}{'target':>8}{'others':>8}{'share':>7}{'=steps':>8}{'=time':>7}")
    for name, row in rows.items():
        wins = [
            f"{sum(gain > 0 for gain in below)}/{len(below)}"
            for below in (row["below_random_at_equal_steps"], row["below_random_at_equal_time"])
        ]
        print(
            f"{name:<30}{row['steps']:>6}{row['cost_in_steps']:>6.0f}{row['target_loss']:>8.3f}"
            f"{row['others_loss']:>8.3f}{row['share_of_target']:>7.0%}{wins[0]:>8}{wins[1]:>7}"
        )


def kept(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The rows as figures of the table of all benchmarks."""
    found = {}
    for name, row in rows.items():
        for what in ("below_random_at_equal_steps", "below_random_at_equal_time"):
            found[f"{name}: {what.replace('_', ' ')}"] = figures.figure(row[what])
    return found


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44, 45])
    parser.add_argument("--quick", action="store_true", help="only show that it works: tiny data, meaningless losses")
    options = parser.parse_args()
    seeds = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            seeds.append(measure(seed, Path(folder), quick=options.quick))
    rows = table(seeds)
    show(rows)
    if options.write:
        shares = {
            f"seed {seed}": {
                name: {"target_loss": run.target_loss, "others_loss": run.others_loss, "cost_in_steps": cost(run)}
                | {"shares": [choice.shares for choice in run.choices]}
                for name, run in runs.items()
            }
            for seed, runs in zip(options.seeds, seeds, strict=True)
        }
        figures.keep("equal_time", kept(rows), seeds=options.seeds, runs=rows, by_seed=shares)


if __name__ == "__main__":
    main()
