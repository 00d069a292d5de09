"""Where jobs run, as ``--jobs``, ``--gpus-per-run`` and ``--on`` say it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.phases.gpus import Gpus, deal
from dataflex.phases.job import Executor
from dataflex.phases.processes import LocalProcesses

LOCAL, RAY = "here", "ray"
_RAYS_QUEUE = 10_000  # Ray queues: it gets all runs at once


@dataclass(frozen=True)
class Where:
    """Where jobs run.

    Attributes:
        executor: Who runs them.
        gpus: Dealt to them; ``None`` where somebody else does.
        jobs: Most at once.
    """

    executor: Executor
    gpus: Gpus | None
    jobs: int


def where(on: str, out: Path, *, jobs: int | None, gpus_per_run: int | None) -> Where:
    """Read the options.

    Args:
        on: Value of ``--on``.
        out: The folder that all runs write to.
        jobs: Value of ``--jobs``; ``None`` was not given.
        gpus_per_run: Value of ``--gpus-per-run``; ``None`` was not given.

    Raises:
        ConfigError: for values that cannot be, too few GPUs, or a cluster that does not see ``out``.
    """
    from dataflex.bridge.llamafactory import device_count

    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs} must be at least 1.")
    if gpus_per_run is not None and gpus_per_run < 0:
        raise ConfigError(f"--gpus-per-run {gpus_per_run} must be at least 0.")
    if on == RAY:
        from dataflex.phases.on_ray import RayTasks

        tasks = RayTasks(gpus_per_run or 0)
        tasks.require_shared(out)
        return Where(tasks, None, jobs or _RAYS_QUEUE)
    if on != LOCAL:
        raise ConfigError(f"--on {on} must be {LOCAL} or {RAY}.")
    at_once = jobs or 1
    gpus = deal(os.environ, device_count, jobs=at_once, per_run=gpus_per_run, per_run_named="--gpus-per-run")
    return Where(LocalProcesses(), gpus, at_once)
