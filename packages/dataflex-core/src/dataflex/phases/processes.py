"""Jobs as processes of this machine, and how to find those that a killed runner left behind.

Each job gets a session of its own, so that Ctrl-C reaches the runner alone, and a note of its process beside its log:
``NAME.process.json``. Whoever is started after a SIGKILL finds the notes and stops what still runs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from dataflex.phases.gpus import VISIBLE
from dataflex.phases.job import Job
from dataflex.record import files

logger = logging.getLogger("dataflex")

_OF_RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
)
"""Variables that would make a run take itself for a rank, or meet another run at its port."""

_NOTE = ".process.json"
_PATIENCE = 120.0
"""Seconds a process gets to finish its step and write a checkpoint."""


def environment(environ: Mapping[str, str], job: Job, gpus: tuple[str, ...]) -> dict[str, str]:
    """The environment of a job: ours without what belongs to ranks, on its own GPUs."""
    kept = {name: value for name, value in environ.items() if name not in _OF_RANKS}
    kept |= {"PYTHONIOENCODING": "utf-8", **job.environ}
    if gpus:
        kept |= {VISIBLE: ",".join(gpus)}
        if len(gpus) > 1:
            kept |= {"NPROC_PER_NODE": str(len(gpus))}  # torchrun then starts with a free port of its own
    return kept


class Process:
    """A job as a process.

    Args:
        job: The job.
        gpus: Its devices.
    """

    def __init__(self, job: Job, gpus: tuple[str, ...]) -> None:
        self._note = note_of(job.log)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(job.log.open("ab"))
            out = log if job.output is None else stack.enter_context(job.output.open("wb"))
            self._process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment(os.environ, job, gpus),
                start_new_session=True,
            )
        files.replace_text(self._note, json.dumps({"host": socket.gethostname(), **_identity(self._process.pid)}))

    def poll(self) -> int | None:
        """Its exit code; ``None`` while it runs."""
        code = self._process.poll()
        if code is not None:
            self._note.unlink(missing_ok=True)
        return code

    def stop(self) -> None:
        """SIGTERM; a training run hands it on to its ranks."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to it and all that it started."""
        _kill(self._process.pid)
        self._process.wait()
        self._note.unlink(missing_ok=True)


class LocalProcesses:
    """Runs jobs on this machine."""

    def start(self, job: Job, gpus: tuple[str, ...]) -> Process:
        """Start a job."""
        return Process(job, gpus)


def note_of(log: Path) -> Path:
    """The note of the process that writes a log."""
    return log.with_name(log.stem + _NOTE)


def stop_left_behind(logs: Path) -> list[str]:
    """Stop the processes of an earlier runner that was killed, and wait for them.

    A training run finishes its step and writes a checkpoint; what takes longer than two minutes is killed.

    Args:
        logs: Folder of the logs.

    Returns:
        Names of the jobs that were still running.
    """
    found = [(note, process) for note in sorted(logs.glob(f"*{_NOTE}")) if (process := _alive(note)) is not None]
    for note, process in found:
        name = note.name.removesuffix(_NOTE)
        logger.warning("%s still runs (process %d), left by a call that was killed: stopping it.", name, process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs([process for _, process in found], timeout=_PATIENCE)
    for process in left:
        _kill(process.pid)
    for note in logs.glob(f"*{_NOTE}"):
        note.unlink(missing_ok=True)
    return [note.name.removesuffix(_NOTE) for note, _ in found]


def _identity(pid: int) -> dict[str, Any]:
    """What tells a process from a later one with the same number."""
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:  # it has ended already
        return {"pid": pid, "created": time.time()}


def _alive(note: Path) -> psutil.Process | None:
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        if record["host"] != socket.gethostname():
            return None
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - record["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if same else None


def _kill(pid: int) -> None:
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _family(pid: int) -> Iterator[psutil.Process]:
    try:
        first = psutil.Process(pid)
        yield from first.children(recursive=True)
        yield first
    except psutil.NoSuchProcess:
        return
