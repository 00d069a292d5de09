"""Running ``dataflex train`` in a process of its own, as a user would, and watching it through the files it writes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataflex.decisions import DecisionLog
from dataflex.errors import DataFlexError

TRAINER_LOG = "trainer_log.jsonl"
"""LlamaFactory appends the step reached and the steps of the run to it, in the ``output_dir``."""

_TAIL = 25
_POLL_SECONDS = 0.3


def train(
    run_file: Path,
    *,
    output_dir: Path,
    log: Path,
    environ: Mapping[str, str],
    report: Callable[[str, int, int | None], None],
) -> float:
    """Train as a run file says and wait for the end.

    Args:
        run_file: The YAML.
        output_dir: Its ``output_dir``.
        log: Where the output goes.
        environ: Environment of the process.
        report: Called now and then with what goes on, the steps done and the steps in all.

    Returns:
        Wall-clock seconds, imports included.

    Raises:
        DataFlexError: if the run fails, with the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dataflex", "train", str(run_file)]
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=dict(environ))
        try:
            while process.poll() is None:
                report(*_state(output_dir))
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        raise DataFlexError(
            f"the run {run_file.name} failed with exit code {process.returncode}. The end of its log ({log}):\n\n"
            f"{tail(log)}\n\nRepeat it by hand: {shlex.join(command)}"
        )
    return time.perf_counter() - started


def environment(environ: Mapping[str, str], *, several_devices: bool) -> dict[str, str]:
    """The environment of the runs: no downloads, and one process on one device whatever the machine has.

    Args:
        environ: The demo's own environment; what the user has set stays.
        several_devices: Whether there is more than one accelerator. A run would be spread over all of them, which
            multiplies its batch.
    """
    defaults = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    if several_devices:
        defaults["CUDA_VISIBLE_DEVICES"] = "0"
    encoding = {"PYTHONIOENCODING": "utf-8"}
    return {**defaults, **environ, **encoding}


def tail(log: Path, lines: int = _TAIL) -> str:
    """The last lines of a log, of each progress bar only what it showed last."""
    with log.open(encoding="utf-8", errors="replace", newline="\n") as file:
        last = deque((line.rstrip().rpartition("\r")[2] for line in file if line.strip()), maxlen=lines)
    return "\n".join(last)


def _state(output_dir: Path) -> tuple[str, int, int | None]:
    record = _last_record(output_dir / TRAINER_LOG)
    if record is None:
        return "starting", 0, None
    selections = sum(1 for _ in DecisionLog(output_dir))
    done, total = int(record["current_steps"]), int(record["total_steps"])
    note = f"step {done}/{total}, selections {selections}"
    return (note + f", loss {record['loss']:.2f}" if "loss" in record else note), done, total


def _last_record(path: Path) -> dict[str, Any] | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(json.loads(lines[-1]))
    except (OSError, IndexError, ValueError):
        return None  # not there yet, or a line half written
