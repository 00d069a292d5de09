"""The commands of a study file: ``prepare`` before the runs of a seed, ``evaluate`` after each run.

They are programs with arguments, never handed to a shell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.phases.job import Job
from dataflex.record import files
from dataflex.study.plan import FILES, LOGS, PlannedRun

_OUTPUT_DIR = "{output_dir}"


def prepare_command(prepare: Sequence[str], seed: int, out: Path) -> tuple[str, ...]:
    """The command of a seed: ``{seed}`` and ``{out}`` in it are filled in, nothing else."""
    return tuple(word.replace("{seed}", str(seed)).replace("{out}", str(out)) for word in prepare)


def prepare_job(command: tuple[str, ...], seed: int, out: Path, environ: Mapping[str, str]) -> Job:
    """The job of a seed's command."""
    return Job(name=f"prepare {seed}", command=command, log=out / LOGS / f".prepare-{seed}.log", environ=environ)


def is_prepared(command: tuple[str, ...], seed: int, out: Path) -> bool:
    """Whether this very command has been run for the seed."""
    try:
        done = json.loads(_mark(seed, out).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(done == {"command": list(command)})


def mark_prepared(command: tuple[str, ...], seed: int, out: Path) -> None:
    """Note that it has."""
    files.replace_text(_mark(seed, out), json.dumps({"command": list(command)}) + "\n")


def _mark(seed: int, out: Path) -> Path:
    return out / FILES / f".prepared-{seed}.json"


def evaluate_command(evaluate: Sequence[str], output_dir: Path) -> tuple[str, ...]:
    """The command of a run: its output directory for ``{output_dir}``, or as last argument."""
    words = tuple(word.replace(_OUTPUT_DIR, str(output_dir)) for word in evaluate)
    return words if any(_OUTPUT_DIR in word for word in evaluate) else (*words, str(output_dir))


def evaluate_job(run: PlannedRun, command: tuple[str, ...], environ: Mapping[str, str]) -> Job:
    """The job of a run's command; its standard output is kept apart, for :func:`last_object`."""
    return Job(name=f"{run.name} evaluate", command=command, log=run.log, output=said_by(run), environ=environ)


def said_by(run: PlannedRun) -> Path:
    """What the command printed."""
    return run.log.with_name(f"{run.name}.evaluate.txt")


def last_object(text: str, before: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of the last line that is a JSON object; ``None`` for one that is not finite.

    Args:
        text: What the command printed.
        before: The run's own numbers.

    Raises:
        ConfigError: if no line is one, it holds no number, or a name is there already.
    """
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            break
    else:
        raise ConfigError("evaluate printed no line that is a JSON object.")
    numbers = {
        str(name): float(value) if math.isfinite(value) else None
        for name, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    if not numbers:
        raise ConfigError(f"evaluate printed {json.dumps(found)[:80]}, which holds no number.")
    if twice := sorted(numbers.keys() & before.keys()):
        raise ConfigError(f"evaluate gives {', '.join(twice)}, which the run has already. Use other names.")
    return numbers
