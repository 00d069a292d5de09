"""Which runs of a study are left to do, and what speaks against going on: changed keys of runs that are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from dataflex.config.gathering import Gathered
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.study.identity import Identity, changes
from dataflex.study.notes import RunNote, Stage
from dataflex.study.plan import PlannedRun
from dataflex.study.results import training_finished
from dataflex.study.study_file import StudyFile


class Task(StrEnum):
    """What is to be done for a run."""

    NOTHING = "done"
    TRAIN = "to train"
    RESUME = "goes on"
    EVALUATE = "to evaluate"
    LEAVE = "failed"


def refuse_unknown_arms(restart: Sequence[str], study: StudyFile) -> None:
    """Check the names that ``--restart`` was given.

    Raises:
        ConfigError: for one that is no arm.
    """
    for name in restart:
        if name not in study.arms:
            raise ConfigError(
                f"--restart {name}: {study.path.name} has no such arm.{did_you_mean(name, study.arms)} It has "
                f"{', '.join(study.arms)}."
            )


def refuse_changed(
    runs: Sequence[PlannedRun],
    notes: Mapping[str, RunNote | None],
    identities: Mapping[str, Identity],
    restart: Sequence[str],
) -> None:
    """Refuse to go on where a run that has begun would now be another one. A failed one simply begins anew.

    Raises:
        ConfigError: names each arm with its changed keys; the same of several seeds once.
    """
    found: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        note = notes.get(run.name)
        if note is None or note.stage is Stage.FAILED or run.arm.name in restart or run.name not in identities:
            continue
        if changed := changes(note.identity, identities[run.name]):
            state = "begun" if note.stage is Stage.BEGUN else "finished"
            found.setdefault((state, "; ".join(changed)), []).append(run)
    problems = Gathered()
    for (state, changed_keys), those in found.items():
        series = ", ".join(dict.fromkeys(run.series for run in those))
        again = " ".join(f"--restart {arm}" for arm in dict.fromkeys(run.arm.name for run in those))
        problems.errors.append(
            ConfigError(
                f"runs of {series} have {state} under other keys: {changed_keys}. Put them back, give the arm another "
                f"name, or train it anew with {again}."
            )
        )
    problems.refuse()


def task_of(
    run: PlannedRun,
    note: RunNote | None,
    now: Identity,
    study: StudyFile,
    *,
    retry_failed: bool = False,
    restart: Sequence[str] = (),
) -> Task:
    """What is to be done for a run."""
    if note is None or run.arm.name in restart:
        return Task.TRAIN
    if note.stage is Stage.FAILED:
        if note.identity != now:
            return Task.TRAIN
        if not retry_failed:
            return Task.LEAVE
        return _after_training(note, study) if note.trained else Task.RESUME
    if training_finished(run):
        return _after_training(note, study)
    return Task.RESUME if note.stage is Stage.BEGUN else Task.TRAIN  # what a finished run left has been deleted


def _after_training(note: RunNote, study: StudyFile) -> Task:
    if not study.evaluate or (note.stage is Stage.DONE and list(note.evaluate) == list(study.evaluate)):
        return Task.NOTHING
    return Task.EVALUATE


def settled(note: RunNote, study: StudyFile) -> RunNote:
    """The note of a run that has nothing left to do: done, without the numbers of a command that is no longer asked."""
    kept = note.numbers if study.evaluate else {}
    return replace(note, stage=Stage.DONE, trained=True, error="", numbers=kept, evaluate=list(study.evaluate))
