"""Studies without a training run: a stand-in for ``dataflex train`` that writes what a run leaves, in no time.

    python fake_study.py train|doremi FILE      what the study's jobs are made to call

Its metric depends on component, seed and steps alone, and it takes as long as ``fake.seconds`` of the run file says.
The keys ``fake: {fail, stop_at, seconds, metrics, command}`` make it fail, end early, or last.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

BETTER = {"random": 0.0, "loss": 0.2, "less": 0.3, "worse": -0.2}
"""How far an arm's metric is below that of random."""


def metric(component: str, seed: int, steps: int) -> float:
    """What a run of so many steps ends with."""
    return 5.0 - 0.3 * math.log(steps) + 0.01 * (seed % 7) - BETTER.get(component, 0.0)


def train(file: Path) -> int:
    """Leave what a run leaves; returns the exit code."""
    import yaml

    keys = yaml.safe_load(file.read_text(encoding="utf-8"))
    fake, out = keys.get("fake") or {}, Path(keys["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    count = out / "starts"
    starts = int(count.read_text()) if count.exists() else 0
    count.write_text(str(starts + 1))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    end = time.monotonic() + float(fake.get("seconds", 0.0)) * (starts == 0)
    print(f"begun {out}", flush=True)
    while time.monotonic() < end and not stopped:
        time.sleep(0.02)
    if stopped:
        (out / "checkpoint").write_text("1")
        print("stopped by SIGTERM")
        return 0
    if fake.get("fail") and starts < int(fake["fail"]):
        print("a long story\nError: the component has failed at step 5.", file=sys.stderr)
        return 2
    steps = keys.get("train_step") or keys.get("max_steps")
    steps = int(steps or fake.get("epoch_steps") or keys["warmup_step"] + keys["update_step"] * keys["update_times"])
    component = keys.get("component_name", "random")
    found = metric(component, keys["seed"], steps)
    numbers = {"eval_a_loss": found, "eval_b_loss": 2.0, "eval_a_runtime": 1.0, **fake.get("metrics", {})}
    if keys.get("train_type", "static") == "static":
        write_static(out, steps, numbers)
    else:
        write_dynamic(out, keys, steps, numbers, deciding=float(fake.get("deciding", 0.0)))
    return 0


def doremi(file: Path) -> int:
    """Leave what ``dataflex doremi`` leaves: three phases, each of which decided for ten seconds."""
    import yaml

    keys = yaml.safe_load(file.read_text(encoding="utf-8"))
    lengths = {"reference": 40, "proxy": 50, "final": keys["doremi"]["final"]["train_step"]}
    for number, (phase, steps) in enumerate(lengths.items(), start=1):
        out = Path(keys["output_dir"], "round-1", phase)
        out.mkdir(parents=True)
        started = f"2026-01-0{number}T00:00:00+00:00"
        settings = {"train_type": "static_mix", "seed": keys["seed"]}
        write_dynamic(out, settings, steps, {"eval_a_loss": float(number)}, deciding=10.0, started=started)
    return 0


def write_static(out: Path, steps: int, numbers: dict[str, Any]) -> None:
    """What LlamaFactory alone leaves: each step took a second."""
    (out / "trainer_state.json").write_text(json.dumps({"global_step": steps, "log_history": []}))
    (out / "all_results.json").write_text(json.dumps({"train_runtime": float(steps), **numbers}))
    (out / "eval_results.json").write_text(json.dumps(numbers))


def write_dynamic(
    out: Path,
    keys: dict[str, Any],
    steps: int,
    numbers: dict[str, Any],
    *,
    deciding: float,
    started: str = "2026-01-01T00:00:00+00:00",
) -> None:
    """What a dynamic run leaves: each step took a second, and deciding what it is said to have taken."""
    from dataflex.record.run import Ending, Logged, RunInfo, RunRecord

    record = RunRecord(out)
    spent = {"elapsed": steps + deciding + 3, "decisions": deciding, "checkpoints": 1.0, "evaluation": 2.0}
    spent |= {f"cpu_{name}": 2 * value for name, value in spent.items()}
    half = {name: value / 2 for name, value in spent.items()}
    for log in (Logged(step=steps // 2, values={"eval_a_loss": numbers["eval_a_loss"] + 0.1}, seconds=half),
                Logged(step=steps, values={"train_runtime": steps + deciding}, seconds=spent)):  # fmt: skip
        record.append(log)
    info = RunInfo(
        train_type=keys["train_type"], stage="sft", kind="selector", component=keys.get("component_name", "random"),
        dist="dataflex-fake", params={}, arguments={}, seed=keys["seed"], global_batch=8, ranks=1, pool=100,
        domains=(), domain_sizes=(), warmup=0, update=0, total=steps, versions={}, started=started,
    )  # fmt: skip
    (out / "eval_results.json").write_text(json.dumps(numbers))
    record.write_info(replace(info, ending=Ending(steps=steps, metrics={}, written=True)))


class FakeProcesses:
    """Runs the stand-in in place of ``dataflex train``; other commands as they are."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, job: Any, gpus: tuple[str, ...]) -> Any:
        """Start a job."""
        from dataflex.phases.processes import Process

        self.started.append(job.name)
        if job.command[1:3] == ("-m", "dataflex"):
            job = replace(job, command=(sys.executable, __file__, *job.command[3:]))
        return Process(job, gpus)


class Silent:
    """Watches and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.on_tick: Any = None

    def begins(self, runs: Any, count: int, entries: Any) -> None:
        """Keep it."""
        self.told.append(("begins", count))

    def started(self, run: Any, *, evaluates: bool) -> None:
        """Keep it."""
        self.told.append(("evaluates" if evaluates else "starts", run.name))

    def ended(self, run: Any, found: Any) -> None:
        """Keep it."""
        self.told.append((found.status.value, run.name))

    def tick(self) -> None:
        """Do what a test asks for."""
        if self.on_tick is not None:
            self.on_tick()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    code = {"train": train, "doremi": doremi}[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)
