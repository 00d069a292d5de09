"""What is noted of a run once its training or its evaluation has ended: done, failed and why, or to be gone on with."""

from __future__ import annotations

from dataclasses import replace

from dataflex.errors import ConfigError
from dataflex.phases.failures import why_it_failed
from dataflex.phases.job import Ended, Outcome
from dataflex.study import commands
from dataflex.study.notes import Part, RunNote, Stage
from dataflex.study.plan import PlannedRun
from dataflex.study.results import NOT_WHOLE, trained, training_finished
from dataflex.study.study_file import StudyFile
from dataflex.study.todo import settled


def after_training(run: PlannedRun, note: RunNote, outcome: Outcome, study: StudyFile) -> RunNote:
    """The note of a run whose training has ended."""
    part = Part(began=outcome.began, seconds=outcome.seconds, shared=outcome.shared)
    note = replace(note, parts=[*note.parts, part])
    if outcome.code == 0 and training_finished(run):
        after = replace(note, stage=Stage.TRAINED, trained=True)
        return after if study.evaluate else settled(after, study)
    if outcome.code == 0 or outcome.ended is Ended.STOPPED:  # a run that SIGTERM stops ends with 0
        return replace(note, stage=Stage.BEGUN, error=NOT_WHOLE)
    return replace(note, stage=Stage.FAILED, error=why_it_failed(run.log, outcome.code))


def after_evaluating(run: PlannedRun, note: RunNote, outcome: Outcome, study: StudyFile) -> RunNote:
    """The note of a run whose evaluation has ended."""
    if outcome.ended is Ended.STOPPED:
        return replace(note, stage=Stage.TRAINED)
    note = replace(note, trained=True, stage=Stage.FAILED)
    if outcome.ended is Ended.BADLY:
        return replace(note, error=f"evaluate failed: {why_it_failed(run.log, outcome.code)}")
    try:
        text = commands.said_by(run).read_text(encoding="utf-8", errors="replace")
        numbers = commands.last_object(text, trained(run)[0].metrics)
    except (OSError, ConfigError) as error:
        return replace(note, error=str(error))
    return settled(replace(note, numbers=numbers), study)
