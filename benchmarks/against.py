"""Old and new core in turns: start, steps of each kind, a plan. python benchmarks/against.py COMMIT [--pairs 9]

The packages of COMMIT are unpacked beside the cache and come first on PYTHONPATH; this tree's do likewise in its turn.
Libraries and metadata are those of the shared environment for both, so a package that COMMIT did not have yet is found
from this tree in both. A pair is two fresh processes, old and new, the first of them changing from pair to pair; its
ratio is new / old, by the wall clock and by the CPU time of the process, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import figures

START = {"start: list-components": ["list-components"], "start: --help": ["--help"]}
STEPS = ("select", "mix", "weight")
PLAN_ROWS = 1_024_000
MOST = 1.02
"""The largest ratio that counts as no slower; a range that includes 1 does as well."""

_SAMPLERS = (
    ("dataflex.mixing.sampler", "dataflex.mixing.batch_order", "dataflex.config.mixture"),
    ("dataflex.data.mixture", "dataflex.data.batch_order", "dataflex.config.mixture"),
)
"""Where sampler, order of batches and units are, and were."""


def unpack(commit: str, folder: Path) -> Path:
    """The packages of a commit, in a folder of their own."""
    archive = subprocess.run(["git", "archive", commit, "packages"], cwd=figures.ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def python_path(tree: Path) -> str:
    """The import path of a tree's packages."""
    packages = tree / "packages"
    return os.pathsep.join(map(str, sorted([*packages.glob("*/src"), *packages.glob("*/*/src")])))


def step_milliseconds(kind: str, rounds: int) -> dict[str, float]:
    """Median step times of a kind of run in this process, by each clock."""
    import steps

    boundary = {"warmup_step": steps.ROUND_STEPS // 2, "update_step": steps.ROUND_STEPS // 2, "update_times": 1}
    keys: dict[str, dict[str, Any]] = {
        "select": {"train_type": "dynamic_select", "component_name": "random", **boundary},
        "mix": {"train_type": "dynamic_mix", "component_name": "random", "init_mixture_proportions": [0.5, 0.5]}
        | boundary,
        "weight": {"train_type": "dynamic_weight", "component_name": "loss", "warmup_step": 0}
        | {"component_params": {"strategy": "linupper"}},
    }
    steps.KINDS[kind] = keys[kind]
    times = steps.StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = steps.make(
            kind, folder, vocabulary=259, length=steps.LENGTH, per_device_train_batch_size=steps.BATCH,
            max_steps=steps.ROUND_STEPS, **steps.MODELS["smallest"],
        )  # fmt: skip
        trainer.train()  # warms caches; not counted
        trainer.add_callback(times)
        for _ in range(rounds):
            trainer.train()
    return {"wall": 1e3 * statistics.median(times.wall), "cpu": 1e3 * statistics.median(times.cpu)}


def plan_seconds(rows: int) -> dict[str, float]:
    """Seconds of one plan over 1,000 domains in this process, by each clock."""
    import numpy as np

    for names in _SAMPLERS:
        try:
            sampling, ordering, units = map(importlib.import_module, names)
            make, permute, unit = sampling.MixtureSampler, ordering.permute_global_batches, units.Unit("samples")
            break
        except (ImportError, AttributeError):
            continue
    else:
        raise SystemExit("this commit has its sampler elsewhere")
    proportions = np.random.default_rng(0).dirichlet(np.ones(1000))
    began, cpu = time.perf_counter(), time.process_time()
    sampler = make([rows // 1000] * 1000, [f"domain-{k}" for k in range(1000)], seed=1, unit=unit, lengths=None)
    permute(sampler.draw(proportions, rows), 512, 1, 0)
    return {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def start_seconds(arguments: list[str]) -> dict[str, float]:
    """Seconds of one command in a fresh process, by each clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dataflex", *arguments], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def measured(what: str, rounds: int) -> dict[str, float]:
    """What one process of a pair measures."""
    if what in START:
        return start_seconds(START[what])
    if what == "plan":
        return plan_seconds(PLAN_ROWS)
    return step_milliseconds(what.removeprefix("steps: "), rounds)


def ratios(what: str, pairs: int, ask: Callable[[str, str], Mapping[str, float]]) -> dict[str, list[float]]:
    """New / old of each pair, by each clock; the two take turns in being first.

    Args:
        what: What is measured.
        pairs: How many pairs count; one more is measured before them, to fill the file cache.
        ask: Measures it once: what, and ``"old"`` or ``"new"``.
    """
    found: dict[str, list[float]] = {"wall": [], "cpu": []}
    for pair in range(pairs + 1):
        order = ("old", "new") if pair % 2 else ("new", "old")
        times = {which: ask(what, which) for which in order}
        for clock, each in found.items():
            if pair:
                each.append(times["new"][clock] / times["old"][clock])
    return found


def main() -> None:
    """Measure, print a table, and say which ratios are above what is allowed."""
    parser = figures.parser(__doc__)
    parser.add_argument("commit", nargs="?", help="the commit to compare with")
    parser.add_argument("--against", dest="option", metavar="COMMIT", help="the same, as nox hands it on")
    parser.add_argument("--pairs", type=int, default=9, help="pairs of each figure")
    parser.add_argument("--rounds", type=int, default=6, help="turns of 20 steps in each process")
    parser.add_argument("--only", nargs="*", help="figures whose name begins so")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure, options.rounds)))
        return
    commit = options.option or options.commit
    if not commit:
        parser.error("name a commit")
    with tempfile.TemporaryDirectory(prefix="dataflex-against-") as folder:
        paths = {"old": python_path(unpack(commit, Path(folder))), "new": python_path(figures.ROOT)}

        def ask(what: str, which: str) -> Mapping[str, float]:
            mine: Mapping[str, float] = figures.in_a_process(
                __file__, "--measure", what, "--rounds", str(options.rounds), PYTHONPATH=paths[which]
            )
            return mine

        found = {}
        for what in (*START, *(f"steps: {kind}" for kind in STEPS), "plan"):
            if not options.only or what.startswith(tuple(options.only)):
                for clock, each in ratios(what, options.pairs, ask).items():
                    found[f"{what}, {clock}"] = figures.figure(each)
    figures.show(found)
    slower = [name for name, each in found.items() if each["median"] > MOST and not each["least"] <= 1 <= each["most"]]
    print(f"slower than {commit}: {', '.join(slower) or 'nothing'} (medians above {MOST} whose range leaves out 1)")
    if options.write:
        figures.keep("against", found, commit=commit)


if __name__ == "__main__":
    main()
