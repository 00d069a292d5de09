"""Projects without a training run: a stand-in for ``dataflex train`` in this process, and losses that follow a law.

A phase's losses are ``FLOORS + exp(SLOPES . p)`` of the mixture p that its run file names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fake_study import write_dynamic

from dataflex.decisions import Decision, DecisionLog
from dataflex.spec import Kind

DOMAINS = ("web", "code", "chat")
SETS = ("a", "b")
TOKENS = (6000, 1000, 3000)
FLOORS = np.array([1.6, 2.0])
SLOPES = np.array([[-1.2, -0.3, 0.5], [0.1, -1.5, -0.4]])
SHARES = np.array(TOKENS) / sum(TOKENS)


def losses(shares: Any) -> Any:
    """The losses on both eval sets."""
    return FLOORS + np.exp(SLOPES @ np.asarray(shares))


def mixture_of(keys: dict[str, Any]) -> Any:
    """The mixture that a run file names."""
    given = keys.get("init_mixture_proportions")
    if isinstance(given, str):
        found = json.loads(Path(given.removeprefix("from:")).read_text())
        given = dict(zip(found["names"], found["average"], strict=True))
    if given is None:
        return SHARES if keys["mixture_sample_rule"] == "stratified" else np.full(len(DOMAINS), 1 / len(DOMAINS))
    return np.array([given[name] for name in DOMAINS])


def leave(keys: dict[str, Any], more: float = 0.0) -> None:
    """Leave what a finished run leaves, with losses that are higher by so much."""
    out, shares = Path(keys["output_dir"]), mixture_of(keys)
    numbers = dict(zip((f"eval_{name}_loss" for name in SETS), (losses(shares) + more).tolist(), strict=True))
    write_dynamic(out, {"seed": 1, **keys}, keys.get("train_step") or keys["max_steps"], numbers, deciding=0.0)
    record = json.loads((out / "dataflex" / "run.json").read_text())
    record |= {"domains": list(DOMAINS), "domain_sizes": [60, 10, 30]}
    (out / "dataflex" / "run.json").write_text(json.dumps(record))
    metrics = {"domains": list(DOMAINS), "proportions": shares.tolist(), "pool_tokens": list(TOKENS)}
    decision = Decision(
        step=1, stage=0, kind=Kind.MIXER, component="static", dist="", version="", params={}, seconds=0.0, seed=1,
        metrics=metrics,
    )  # fmt: skip
    DecisionLog(out).append(decision)


class FakeTraining:
    """An executor that trains in no time.

    Args:
        fails: Names of jobs that end with an exit code, each once, with the code: 0 stands for a run that SIGTERM
            stopped.
        dies: The job at whose start the command itself is killed.
        worse: The job whose losses are higher by 1.

    Attributes:
        started: Names of the jobs, in order.
    """

    def __init__(self, fails: dict[str, int] | None = None, dies: str = "", worse: str = "") -> None:
        self.fails, self.dies, self.worse, self.started = dict(fails or {}), dies, worse, list[str]()

    def start(self, job: Any, gpus: tuple[str, ...]) -> Any:
        """Run a job."""
        if job.name == self.dies:
            self.dies = ""
            raise MemoryError("killed")
        self.started.append(job.name)
        code = self.fails.pop(job.name, None)
        if code is None:
            leave(yaml.safe_load(Path(job.command[4]).read_text()), float(job.name == self.worse))
        return Ended(code or 0)


class Ended:
    """A job that has ended."""

    def __init__(self, code: int) -> None:
        self._code = code

    def poll(self) -> int:
        """Its exit code."""
        return self._code

    def stop(self) -> None:
        """Nothing is left to stop."""

    def kill(self) -> None:
        """Likewise."""
