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

from dataflex import ConfigError
from dataflex.checkpoint.folders import latest_valid
from dataflex.checkpoint.state import write_atomically
from dataflex.checkpoint_keys.compare import deciding_changes
from dataflex.paths import user_path
from dataflex.record.run import RunRecord
from dataflex.resumable import why_no_resume
from dataflex_mixers_doremi.phases import Phase, PhaseName
from dataflex_mixers_doremi.reference import is_same_model, model_identity
from dataflex_mixers_doremi.weights import WEIGHTS_NAME

logger = logging.getLogger("dataflex")

RECORD_NAME = "phase.json"
_LOCK_NAME = ".doremi.lock"
_FREE_PARAMS = ("cache_dir", "token_budget")  # the result does not depend on them


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
    changed = deciding_changes(record["keys"], json.loads(json.dumps(phase.keys)), _FREE_PARAMS)
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
    if record["reference"] is not None and not _has_reference(phase, record["reference"]):
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
        to_come = {phase.weights_read for phase in phases if progress(phase) is not Progress.COMPLETE}
        for phase in phases:
            missed = _lacks_weights(phase) and phase.output_dir / WEIGHTS_NAME in to_come
            if progress(phase) is Progress.COMPLETE and not missed:  # asked again: one before may have trained anew
                logger.info("%s is complete: %s", phase.title, phase.output_dir)
                continue
            logger.info("%s: %s, %s", phase.title, phase.run_file, phase.length)
            _record(phase, complete=False)
            code = _train(phase, plugins, lock)
            if code:
                further = "goes on from its last" if _has_checkpoint(phase) else "begins it anew: there is no"
                said = _in_vain(phase) or f"The same command {further} checkpoint."
                logger.error("%s ended with exit code %d. %s", phase.title, code, said)
                raise SystemExit(code)
            if not _has_ended(phase):
                said = _in_vain(phase) or "The same command goes on from there."
                logger.warning("%s was stopped before its last step. %s", phase.title, said)
                raise SystemExit(0)
            _say_early_end(phase)
            _record(phase, complete=True)


def _in_vain(phase: Phase) -> str:
    """What to say of a phase that cannot go on from its own checkpoints; ``""`` if it can."""
    reason = why_no_resume(phase.keys, phase.run_file.name) if _has_checkpoint(phase) else ""
    return reason and f"It cannot go on from its checkpoints: {reason}. Delete {phase.output_dir} to begin it anew."


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


def _say_early_end(phase: Phase) -> None:
    """Say of a phase that has ended before its last step what follows from it.

    Raises:
        ConfigError: when it is a proxy whose weights have not moved yet, so that there is no average to go on with.
    """
    info = RunRecord(phase.output_dir).info()
    ending = None if info is None else info.ending
    if ending is None or info is None:
        return
    if _lacks_weights(phase):
        raise ConfigError(
            f"{phase.title} ended at step {ending.steps}, before it had moved a weight: there is no average to go on "
            "with. Lower its warmup_step, or let it train longer (early_stopping_steps)."
        )
    if ending.ended_by:
        average = "; the average of its weights is over these" if phase.name is PhaseName.PROXY else ""
        logger.info(
            "%s ended early after %d of %d steps, by %s%s.",
            *(phase.title, ending.steps, info.total, ending.ended_by, average),
        )


def _lacks_weights(phase: Phase) -> bool:
    """Whether what a proxy is trained for is missing, e.g. since an older version ended it early without a word."""
    return phase.name is PhaseName.PROXY and not (phase.output_dir / WEIGHTS_NAME).is_file()


def _has_checkpoint(phase: Phase) -> bool:
    return latest_valid(phase.output_dir)[0] is not None


def _has_reference(phase: Phase, recorded: str) -> bool:
    """Whether the reference of a proxy is the recorded one; where it is no folder (any more), that is not known."""
    if phase.reference is None or not user_path(phase.reference).is_dir():
        return True
    return is_same_model(str(phase.reference), recorded)


def _identity(phase: Phase) -> str | None:
    """What tells the reference of a proxy from others; ``None`` without one, or where it is no folder (any more)."""
    if phase.reference is None or not user_path(phase.reference).is_dir():
        return None
    return model_identity(str(phase.reference))
