"""Jobs as Ray tasks: Ray queues them and places them on the nodes of its cluster. Needs the extra ``ray``.

Workers need the same packages as the driver and see the same folders, which a file tells at the start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.phases.job import Job

_INHERITED = ("DATAFLEX_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "OMP_", "FORCE_TORCHRUN", "NPROC_PER_NODE")
"""Beginnings of the variables that a task takes over from the driver."""

_PATIENCE = 120.0
_POLL_SECONDS = 0.2


class RayTasks:
    """Runs jobs on a Ray cluster: that of ``RAY_ADDRESS``, or one on this machine.

    Args:
        gpus_per_run: GPUs that Ray gives each run.

    Raises:
        ConfigError: if Ray is not installed, or the cluster has too few GPUs for one run.
    """

    def __init__(self, gpus_per_run: int = 0) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError("--on ray needs Ray: pip install 'dataflex-core[ray]'.") from error
        self._ray, self._gpus_per_run = ray, gpus_per_run
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        available = ray.cluster_resources().get("GPU", 0)
        if gpus_per_run > available:
            raise ConfigError(
                f"--gpus-per-run {gpus_per_run}: no run could start, as the Ray cluster has {available:g} GPUs."
            )
        self._task = ray.remote(run_command)

    def require_shared(self, folder: Path) -> None:
        """Check that every node sees a folder.

        Raises:
            ConfigError: names the nodes that do not.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        folder.mkdir(parents=True, exist_ok=True)
        mark = folder.absolute() / f".ray-{uuid.uuid4().hex}"
        mark.touch()
        try:
            look = self._ray.remote(_exists)
            nodes = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
            asked = {
                node["NodeManagerHostname"]: look.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(str(mark))
                for node in nodes
            }
            blind = [name for name, answer in asked.items() if not self._ray.get(answer)]
        finally:
            mark.unlink()
        if blind:
            raise ConfigError(
                f"out: {folder} is not seen by {', '.join(blind)}. Name a folder that all nodes of the cluster share."
            )

    def start(self, job: Job, gpus: tuple[str, ...]) -> RayTask:
        """Hand a job to Ray."""
        environ = {name: value for name, value in os.environ.items() if name.startswith(_INHERITED)}
        wanted = self._gpus_per_run if job.takes_gpus else 0
        output = None if job.output is None else str(job.output.absolute())
        job.log.parent.mkdir(parents=True, exist_ok=True)
        task = self._task.options(num_gpus=wanted, max_retries=0, name=job.name).remote(
            list(job.command), sys.executable, str(job.log.absolute()), output, {**environ, **job.environ}, os.getcwd()
        )
        return RayTask(self._ray, task, job.log)


class RayTask:
    """A job that Ray runs, or will run.

    Args:
        ray: The module.
        task: The reference to its result.
        log: Its log.
    """

    def __init__(self, ray: Any, task: Any, log: Path) -> None:
        self._ray, self._task, self._log = ray, task, log
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code; ``None`` while it waits or runs."""
        if self._code is None and self._ray.wait([self._task], timeout=0)[0]:
            self._code = self._result()
        return self._code

    def stop(self) -> None:
        """Cancel it: what runs gets SIGTERM, and what waits never starts."""
        self._ray.cancel(self._task, force=False)

    def kill(self) -> None:
        """Cancel it with its worker process."""
        with contextlib.suppress(Exception):  # whatever Ray says of a task that has ended meanwhile
            self._ray.cancel(self._task, force=True)

    def _result(self) -> int:
        from ray.exceptions import RayError, TaskCancelledError

        try:
            return int(self._ray.get(self._task))
        except TaskCancelledError:
            return -signal.SIGTERM
        except RayError as error:  # a worker or its node died
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"Error: Ray could not run it: {type(error).__name__}: {str(error).splitlines()[-1]}\n")
            return 1


def run_command(
    command: Sequence[str], driver: str, log: str, output: str | None, environ: dict[str, str], folder: str
) -> int:
    """Run a command in a task, and end it with the task.

    Args:
        command: Its arguments; the driver's Python stands for the worker's.
        driver: The driver's Python.
        log: File that its output is added to.
        output: File for its standard output alone.
        environ: Variables on top of the worker's own.
        folder: Where it is run.

    Returns:
        Its exit code.
    """
    words = [sys.executable if word == driver else word for word in command]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(open(log, "ab"))
        out = errors if output is None else stack.enter_context(open(output, "wb"))
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            cwd=folder,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environ},
        )
        try:
            while process.poll() is None:  # Ray interrupts between two lines of Python, not within a system call
                time.sleep(_POLL_SECONDS)
            return int(process.returncode)
        except KeyboardInterrupt:  # cancelled: the run finishes its step and writes a checkpoint
            process.terminate()
            return _waited(process)
        finally:
            if process.poll() is None:
                process.kill()


def _waited(process: Any) -> int:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return int(process.wait(_PATIENCE))
    process.kill()
    return int(process.wait())


def _exists(path: str) -> bool:
    return os.path.exists(path)
