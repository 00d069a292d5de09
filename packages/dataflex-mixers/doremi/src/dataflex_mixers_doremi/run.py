"""Training the phases one after another, each in a process of its own, and going on where the last call stopped."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from dataflex.checkpoints import latest_valid
from dataflex.errors import ConfigError
from dataflex.paths import user_path
from dataflex.run_record import RunRecord
from dataflex.state import write_atomically
from dataflex_mixers_doremi.phases import Phase
from dataflex_mixers_doremi.recorded_keys import changed_keys
from dataflex_mixers_doremi.reference import model_identity

logger = logging.getLogger("dataflex")

RECORD_NAME = "phase.json"
_LOCK_NAME = ".doremi.lock"


class Progress(StrEnum):
    """How far a phase has come."""

    TO_DO = "to do"
    BEGUN = "begun"
    COMPLETE = "complete"


def progress(phase: Phase) -> Progress:
    """How far a phase has come, by its record and its checkpoints: one without either has nothing to lose.

    Raises:
        ConfigError: when it was begun with keys of another result, or what it had read has changed since.
    """
    record = _read(phase)
    if record is None or not (record["complete"] or _has_checkpoint(phase)):
        return Progress.TO_DO
    changed = changed_keys(record["keys"], json.loads(json.dumps(phase.keys)))
    if changed:
        raise ConfigError(
            f"{phase.title} in {phase.output_dir} was begun with other keys: {'; '.join(changed)}. Put them back, or "
            "start anew in another output_dir."
        )
    if record["weights"] not in (None, _digest(phase.weights_read)):
        raise ConfigError(
            f"{phase.title} in {phase.output_dir} was begun with other weights than {phase.weights_read} has now. "
            f"Restore that file, or move {phase.output_dir} away."
        )
    if record["reference"] is not None and _identity(phase) not in (None, record["reference"]):
        raise ConfigError(
            f"{phase.title} in {phase.output_dir} was begun with another reference than {phase.reference} is now. "
            f"Restore that model, or move {phase.output_dir} away."
        )
    return Progress.COMPLETE if record["complete"] else Progress.BEGUN


def run_phases(phases: Sequence[Phase], root: Path, plugins: Sequence[str]) -> None:
    """Write all run files, then train what is not complete.

    Args:
        phases: In order.
        root: The folder they lie in.
        plugins: Values of ``-p`` for each run.

    Raises:
        ConfigError: when another call is still at work there, or settings have changed.
        SystemExit: with the exit code of a phase that failed; with 0 after one that SIGTERM has stopped.
    """
    if int(os.environ.get("NNODES", "1")) > 1:
        raise ConfigError(
            "`dataflex doremi` runs on one node. Train its run files by hand, in order, with `dataflex-cli train` on "
            "every node: they are ordinary ones."
        )
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / _LOCK_NAME) as lock:
        for phase in phases:  # all of them before the first trains
            progress(phase)
        for phase in phases:
            phase.run_file.parent.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(dict(phase.keys), sort_keys=False, allow_unicode=True)
            write_atomically(phase.run_file, text.encode())
        for phase in phases:
            if progress(phase) is Progress.COMPLETE:  # asked again: a phase before it may have been trained anew
                logger.info("%s is complete: %s", phase.title, phase.output_dir)
                continue
            logger.info("%s: %s, %s", phase.title, phase.run_file, phase.length)
            _record(phase, complete=False)
            code = _train(phase, plugins, lock)
            if code:
                further = "goes on from its last" if _has_checkpoint(phase) else "begins it anew: there is no"
                logger.error("%s ended with exit code %d. The same command %s checkpoint.", phase.title, code, further)
                raise SystemExit(code)
            if not _has_ended(phase):
                logger.warning("%s was stopped before its last step. The same command goes on from there.", phase.title)
                raise SystemExit(0)
            _record(phase, complete=True)


def _train(phase: Phase, plugins: Sequence[str], lock: int) -> int:
    chosen = [word for value in plugins for word in ("-p", value)]
    command = [sys.executable, "-m", "dataflex", "train", str(phase.run_file), *chosen]
    # The child holds the lock too: if only this process is killed, nobody starts a second one beside it.
    child = subprocess.Popen(command, pass_fds=(lock,))

    def stop(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return child.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the child as well
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another `dataflex doremi`, or a phase it started, is still at work in {path.parent}. Wait for it, or "
                "end it."
            ) from error
        yield handle
    finally:
        os.close(handle)


def _record(phase: Phase, *, complete: bool) -> None:
    phase.output_dir.mkdir(parents=True, exist_ok=True)
    record = {
        "complete": complete,
        "keys": dict(phase.keys),
        "weights": _digest(phase.weights_read),
        "reference": _identity(phase),
    }
    write_atomically(phase.output_dir / RECORD_NAME, (json.dumps(record, indent=1) + "\n").encode())


def _read(phase: Phase) -> dict[str, Any] | None:
    path = phase.output_dir / RECORD_NAME
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _digest(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _has_ended(phase: Phase) -> bool:
    """Whether a run came to its last step: one that SIGTERM has stopped ends with code 0 too."""
    info = RunRecord(phase.output_dir).info()
    return info is not None and info.ending is not None


def _has_checkpoint(phase: Phase) -> bool:
    return latest_valid(phase.output_dir)[0] is not None


def _identity(phase: Phase) -> str | None:
    """What tells the reference of a proxy from others; ``None`` without one, or where it is no folder (any more)."""
    if phase.reference is None or not user_path(phase.reference).is_dir():
        return None
    return model_identity(str(phase.reference))
