"""From the notes and files of a run to the entry that study.json has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.study.file_keys import COMMANDS
from dataflex.study.identity import fingerprint
from dataflex.study.notes import Part, RunNote, Stage
from dataflex.study.plan import PlannedRun
from dataflex.study.reading import Trained, costs, has_finished, phases_of, read_trained
from dataflex.study.study_file import StudyFile
from dataflex.study.study_run import Status, StudyRun

NOT_WHOLE = "it was stopped before its last step; the same command goes on"


def training_finished(run: PlannedRun) -> bool:
    """Whether a run has trained to its end; a command's, if its last phase has."""
    if not run.arm.command:
        return has_finished(run.output_dir)
    phases = phases_of(run.output_dir)
    return bool(phases) and all(map(has_finished, phases)) and _is_last(phases[-1], run)


def _is_last(phase: Path, run: PlannedRun) -> bool:
    return phase.name == COMMANDS[run.arm.command]


def evaluated_folder(run: PlannedRun) -> Path:
    """The output directory that a run's metric is of: a command's is that of its last phase."""
    return phases_of(run.output_dir)[-1] if run.arm.command else run.output_dir


def trained(run: PlannedRun) -> tuple[Trained, list[Trained]]:
    """What a finished run left, and what the phases before it did.

    Raises:
        ConfigError: if one of them is not whole.
    """
    phases = phases_of(run.output_dir) if run.arm.command else [run.output_dir]
    *before, last = map(read_trained, phases)
    return last, before


def entry(run: PlannedRun, note: RunNote | None, study: StudyFile) -> StudyRun:
    """What study.json has of a run.

    Args:
        run: The run.
        note: What is known of it; ``None`` if it has not begun.
        study: The study.
    """
    known: dict[str, Any] = {
        "arm": run.arm.name,
        "seed": run.seed,
        "length": run.length,
        "output_dir": run.folder,
        "fingerprint": fingerprint(note.identity) if note is not None else "",
        "shared_cores": note is not None and any(part.shared for part in note.parts),
    }
    if note is None:
        return StudyRun(**known)
    if note.stage is Stage.FAILED:
        return StudyRun(**known, status=Status.FAILED, error=note.error)
    if note.stage is not Stage.DONE:
        return StudyRun(**known, error=note.error or NOT_WHOLE)
    try:
        last, before = trained(run)
    except ConfigError as error:
        return StudyRun(**known, status=Status.FAILED, error=str(error))
    metrics = {**last.metrics, **note.numbers}
    cost, deciding = costs(last, before, counts_index=study.counts_index)
    return StudyRun(
        **known,
        steps=last.steps,
        status=Status.DONE,
        metrics=metrics,
        metric=metrics.get(study.metric),
        cost=cost,
        deciding=deciding,
        seconds=_seconds(last, before, note),
    )


def _seconds(last: Trained, before: Sequence[Trained], note: RunNote) -> Mapping[str, float | None]:
    """Where the time of all phases went; what was started, loaded and written last is what nothing else explains."""
    phases = [*before, last]
    spent = {
        "training": sum(phase.seconds.training for phase in phases),
        "deciding": sum(phase.seconds.deciding for phase in phases),
        "evaluating": sum(phase.seconds.evaluating + phase.evaluation for phase in phases),
        "saving": sum(phase.seconds.saving for phase in phases),
    }
    starting = _whole(note.parts) - sum(spent.values()) if len(note.parts) == note.starts == 1 else None
    return {"starting": None if starting is None else max(starting, 0.0), **spent}


def _whole(parts: Sequence[Part]) -> float:
    return sum(part.seconds for part in parts)
