"""``study.json`` and ``study.csv``: everything the page shows, numbers as measured."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import importlib_metadata
import psutil

from dataflex import __version__
from dataflex.errors import ConfigError
from dataflex.record import fields as records
from dataflex.record import files
from dataflex.study.compare import Comparison
from dataflex.study.paired import Paired
from dataflex.study.study_run import StudyRun

SCHEMA = 1
NAME, TABLE = "study.json", "study.csv"
_RECORDED = ("torch", "transformers", "llamafactory", "accelerate", "peft", "datasets", "numpy", "scipy")
_HEADS = ("arm", "seed", "length", "steps", "status", "metric", "cost_steps", "cost_seconds", "cost_cpu_seconds")


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as it is recorded (schema 1; later schemas only add fields).

    Attributes:
        study: The study file, resolved.
        machine: What it ran on.
        versions: Version by distribution, Python's included.
        runs: The runs, in the order of the plan.
        arms: What is said of each arm, the baseline left out.
        total: Optimizer steps of the baseline, T; ``None`` while it is not known.
        extended: Lengths that ``--extend-baseline`` has added to those of the file.
        schema: Version of this record.
    """

    study: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    runs: Sequence[StudyRun]
    arms: Mapping[str, Any] = field(default_factory=dict)
    total: int | None = None
    extended: Sequence[float] = ()
    schema: int = SCHEMA

    def write(self, out: Path) -> None:
        """Write both files whole."""
        record = {"schema": self.schema, **{name: value for name, value in asdict(self).items() if name != "schema"}}
        files.replace_text(out / NAME, json.dumps(finite(record), indent=1, allow_nan=False) + "\n")
        files.replace_text(out / TABLE, table(self.runs))


def read_record(out: Path) -> StudyRecord | None:
    """The record of a study; ``None`` if there is none.

    Raises:
        ConfigError: for a damaged one, and one that a later version has written.
    """
    path = out / NAME
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.get("schema") if isinstance(found, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise ConfigError(
                f"{path} was written by a later version of dataflex-core (schema {schema}; this one knows {SCHEMA}). "
                "Use that version, or another out."
            )
        return records.from_fields(StudyRecord, found)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not the record of a study ({error}). Move it away; no run is lost.") from error


def table(runs: Sequence[StudyRun]) -> str:
    """One line a run, as CSV: what is compared, then every metric."""
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEADS, *metrics])
    for run in runs:
        costs = [run.cost.get(unit) for unit in ("steps", "seconds", "cpu_seconds")]
        row = [run.arm, run.seed, run.length, run.steps, run.status.value, run.metric, *costs]
        writer.writerow(
            ["" if value is None else value for value in [*row, *(run.metrics.get(name) for name in metrics)]]
        )
    return text.getvalue()


def of_arms(found: Mapping[str, Comparison]) -> dict[str, Any]:
    """Comparisons as JSON values."""
    return {arm: _of_arm(comparison) for arm, comparison in found.items()}


def _of_arm(found: Comparison) -> dict[str, Any]:
    worth = found.worth
    return {
        "equal_steps": _of_pairs(found.equal_steps),
        "equal_cost": _of_pairs(found.equal_cost),
        "worth_seeds": list(worth),
        "rho": [each.spelt for each in worth.values()],
        "deciding": [each.deciding for each in worth.values()],
        "allowed": [each.allowed for each in worth.values()],
        "pays": [each.pays for each in worth.values()],
        "others": dict(found.others),
        "verdict": found.verdict,
    }


def _of_pairs(found: Paired) -> dict[str, Any]:
    return {**asdict(found), "outside": found.outside}


def machine() -> dict[str, Any]:
    """What this machine is, as far as its runs depend on it."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """Versions of what the runs stand on."""
    found = {"python": platform.python_version(), "dataflex-core": __version__}
    for name in _RECORDED:
        try:
            found[name] = importlib_metadata.version(name)
        except importlib_metadata.PackageNotFoundError:
            continue
    return found


def finite(value: Any) -> Any:
    """JSON values in which a number that is none is ``None``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, (list, tuple)) else value
