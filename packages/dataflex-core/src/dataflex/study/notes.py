"""What is known of each run beside its own files: ``files/ARM-SEED.json``, written when it begins and when it ends.

It is why a study can go on: whatever moment a kill comes at, the notes and the runs' own files say what is done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.record import fields as records
from dataflex.record import files


class Stage(StrEnum):
    """How far a run has come."""

    BEGUN = "begun"
    TRAINED = "trained"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of a run.

    Attributes:
        began: When, seconds since the epoch.
        seconds: How long it took.
        shared: Whether another run of the study ran beside it.
    """

    began: float
    seconds: float
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class RunNote:
    """A run as the study knows it.

    Attributes:
        identity: What its result depends on (:mod:`~dataflex.study.identity`).
        stage: How far it has come.
        error: Why it failed.
        trained: Whether it has trained to its end; its weights are then there even if it failed afterwards.
        starts: How often it was started: more than there are parts, if the study was killed.
        parts: Its processes that ended while the study ran.
        evaluate: The command whose numbers it has.
        numbers: Those numbers.
        versions: Of what it was made with.
    """

    identity: Mapping[str, Any]
    stage: Stage = Stage.BEGUN
    error: str = ""
    trained: bool = False
    starts: int = 0
    parts: Sequence[Part] = ()
    evaluate: Sequence[str] = ()
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it whole."""
        files.replace_text(path, json.dumps(asdict(self), indent=1) + "\n")


def note_path(run_file: Path) -> Path:
    """Where the note of a run lies."""
    return run_file.with_name(run_file.name.removesuffix(".yaml") + ".json")


def read_note(run_file: Path) -> RunNote | None:
    """The note of a run; ``None`` if it has not begun.

    Raises:
        ConfigError: for a damaged one.
    """
    path = note_path(run_file)
    if not path.is_file():
        return None
    try:
        return records.from_fields(RunNote, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not the note of a run ({error}). Move it away to train that run anew.") from error
