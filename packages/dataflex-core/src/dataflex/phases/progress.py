"""How far a phase has come, by the record in its output directory and by its checkpoints."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from dataflex.checkpoint.folders import latest_valid
from dataflex.checkpoint_keys.compare import deciding_changes
from dataflex.errors import ConfigError
from dataflex.phases.phase import Phase
from dataflex.record.files import write_atomically
from dataflex.record.run import RunRecord

RECORD_NAME = "phase.json"


class Progress(StrEnum):
    """How far a phase has come."""

    TO_DO = "to do"
    BEGUN = "begun"
    COMPLETE = "complete"


def progress(phase: Phase) -> Progress:
    """How far a phase has come: one without a record or without a checkpoint has nothing to lose.

    Raises:
        ConfigError: when it was begun with keys of another result, another run was begun in its folder, or what it had
            read has changed since.
    """
    record = _read(phase)
    if record is None or not (record["complete"] or has_checkpoint(phase)):
        return Progress.TO_DO
    changed = deciding_changes(record["keys"], json.loads(json.dumps(phase.keys)), phase.free_params)
    if changed:
        raise ConfigError(
            f"{phase.title} in {phase.output_dir} was begun with other keys: {'; '.join(changed)}. Put them back, or "
            "start anew in another output_dir."
        )
    run_id = _run_id(phase) if record["complete"] else ""
    if run_id and record.get("run", run_id) not in ("", run_id):
        raise ConfigError(
            f"{phase.title} was complete, and another run was begun in {phase.output_dir} since. Move "
            f"{phase.output_dir} away, and it is trained anew, or start anew in another output_dir."
        )
    for read in phase.reads:
        recorded = record.get(read.field)
        if recorded is not None and not read.is_same(recorded):
            raise ConfigError(
                f"{phase.title} in {phase.output_dir} was begun with {read.changed}, or move {phase.output_dir} away."
            )
    return Progress.COMPLETE if record["complete"] else Progress.BEGUN


def note(phase: Phase, *, complete: bool) -> None:
    """Note that a phase begins, or is complete, with what its result depends on and which run has completed it."""
    phase.output_dir.mkdir(parents=True, exist_ok=True)
    record = {
        "complete": complete,
        "keys": dict(phase.keys),
        "weights": None,
        "reference": None,
        "run": _run_id(phase) if complete else "",
        **{read.field: read.identity() for read in phase.reads},
    }
    write_atomically(phase.output_dir / RECORD_NAME, (json.dumps(record, indent=1) + "\n").encode())


def _run_id(phase: Phase) -> str:
    """The run that was begun last in a phase's folder; ``""`` if that is not known."""
    try:
        info = RunRecord(phase.output_dir).info()
    except ConfigError:
        return ""
    return "" if info is None else info.run_id


def has_checkpoint(phase: Phase) -> bool:
    """Whether there is something to go on from."""
    return latest_valid(phase.output_dir)[0] is not None


def _read(phase: Phase) -> dict[str, Any] | None:
    path = Path(phase.output_dir / RECORD_NAME)
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
