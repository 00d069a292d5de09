"""Folders as ``dataflex study`` leaves them, without a run: arms, seeds and lengths in no time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_study import metric, write_dynamic

from dataflex.study.compare import Question, compare
from dataflex.study.record import StudyRecord, machine, of_arms, versions
from dataflex.study.study_run import Cost, Status, StudyRun

DECIDING = {"random": 0.0, "loss": 20.0, "less": 100.0}
LENGTHS = (0.5, 1, 2)
STEPS = 100


def write_study(
    folder: Path,
    *,
    seeds: tuple[int, ...] = (42, 43, 44, 45),
    cost: str = "steps",
    done: bool = True,
    error: str = "",
    shared_cores: bool = False,
) -> Path:
    """Write what a study of three arms would have left; each step took a second.

    Args:
        folder: The study's folder.
        seeds: Its seeds.
        cost: Its unit of cost.
        done: Whether its runs have ended.
        error: Why the last run has failed; none has if not given.
        shared_cores: Whether runs shared the machine.
    """
    runs = []
    for seed in seeds:
        for arm in DECIDING:
            for length in LENGTHS if arm == "random" else (1,):
                runs.append(_run(folder, arm, seed, length, done, shared_cores))
    if error:
        runs[-1] = replace(runs[-1], status=Status.FAILED, error=error, metric=None, metrics={})
    asked = Question(
        baseline="random", arms=[*DECIDING], seeds=seeds, metric="eval_a_loss", lower=True, cost=Cost(cost)
    )
    study: dict[str, Any] = {
        "file": f"{folder.name}.yaml",
        "base": "run.yaml",
        "out": str(folder),
        "baseline": "random",
        "arms": {arm: {"component_name": arm} for arm in DECIDING},
        "seeds": list(seeds),
        "metric": "eval_a_loss",
        "direction": "lower",
        "baseline_lengths": list(LENGTHS),
        "cost": cost,
        "prepare": None,
        "evaluate": None,
    }
    arms = of_arms(compare(runs, asked))
    record = StudyRecord(study=study, machine=machine(), versions=versions(), runs=runs, arms=arms, total=STEPS)
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder)
    return folder


def _run(folder: Path, arm: str, seed: int, length: float, done: bool, shared: bool) -> StudyRun:
    run = StudyRun(arm=arm, seed=seed, length=length, shared_cores=shared)
    run = replace(run, output_dir=f"runs/{run.name}/{seed}", fingerprint="0" * 64)
    if not done:
        return run
    steps, deciding = round(STEPS * length), DECIDING[arm]
    numbers = {"eval_a_loss": metric(arm, seed, steps), "eval_b_loss": 2.0 + deciding / 1000, "eval_a_runtime": 1.0}
    keys = {"train_type": "dynamic_select", "component_name": arm, "seed": seed}
    write_dynamic(folder / run.output_dir, keys, steps, numbers, deciding=deciding)
    whole = float(steps + deciding)
    return replace(
        run,
        status=Status.DONE,
        steps=steps,
        metrics=numbers,
        metric=numbers["eval_a_loss"],
        cost={"steps": whole, "seconds": whole, "cpu_seconds": 2 * whole},
        deciding={"steps": deciding, "seconds": deciding, "cpu_seconds": 2 * deciding},
        seconds={"starting": 20.0, "training": float(steps), "deciding": deciding, "evaluating": 3.0, "saving": 1.0},
    )
