"""Runs that are killed at a chosen point: held there by ``witness.py``, then SIGKILL for every process of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import witness
from tiny_runs import call, kill_all

RowsByStep = Mapping[int, list[str]]


def train_command(run_file: Path, plugins: Sequence[Path] = ()) -> list[str]:
    """``dataflex train`` under the eyes of the witness, with files of components."""
    options = [option for file in (witness.__file__, *plugins) for option in ("-p", str(file))]
    return [sys.executable, "-m", "dataflex", *options, "train", str(run_file)]


def environment(ranks: int) -> dict[str, str]:
    """What starts so many ranks."""
    return {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(ranks)} if ranks > 1 else {}


def run_to_the_end(run_file: Path, *, ranks: int = 1, plugins: Sequence[Path] = (), samples: Path | None = None) -> str:
    """Run, and return what was printed.

    Args:
        run_file: The run.
        ranks: Number of processes.
        plugins: Files of components.
        samples: Where the witness writes what each step saw.
    """
    watched = {"WITNESS_SAMPLES": str(samples)} if samples is not None else {}
    done = call(*train_command(run_file, plugins), **environment(ranks), **watched)
    assert done.returncode == 0
    told: str = done.stdout + done.stderr
    return told


def kill_at(
    point: str, step: int, run_file: Path, folder: Path, *, ranks: int = 1, plugins: Sequence[Path] = ()
) -> None:
    """Start a run and kill it at a point of :mod:`witness`.

    Args:
        point: Where.
        step: The optimizer step there.
        run_file: The run.
        folder: For the marker and the log.
        ranks: Number of processes.
        plugins: Files of components.
    """
    held, log = folder / f"held-{point}-{step}", folder / f"log-{point}-{step}.txt"
    hold = {"WITNESS_HOLD": f"{point}:{step}", "WITNESS_HELD": str(held)}
    fixed = {"OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            train_command(run_file, plugins),
            env={**os.environ, **fixed, **environment(ranks), **hold},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        while not held.exists():
            assert process.poll() is None, f"the run ended before {point}:{step}:\n{log.read_text()[-4000:]}"
            time.sleep(0.05)
    finally:
        kill_all(process)


def samples_of_steps(folder: Path) -> RowsByStep:
    """Rows of each optimizer step over all ranks, sorted."""
    steps: dict[int, list[str]] = {}
    for file in folder.glob("rank-*.jsonl"):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            steps.setdefault(record["step"], []).extend(record["rows"])
    return {step: sorted(rows) for step, rows in sorted(steps.items())}
