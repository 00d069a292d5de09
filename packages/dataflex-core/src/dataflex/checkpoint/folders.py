"""The checkpoints of an output directory: which can be resumed from, and which to delete.

A folder is not a run: ``run_id`` tells which run wrote a checkpoint, and ``dataflex/run.json`` which was begun last in
the folder. What another run left there is neither resumed by itself nor deleted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from dataflex.checkpoint import damage, state
from dataflex.checkpoint import files as checkpoint_files
from dataflex.checkpoint.damage import why_damaged
from dataflex.errors import ConfigError
from dataflex.record.run import RunRecord

_NAME = re.compile(r"checkpoint-(\d+)")
ASIDE = "earlier-runs"
"""Folder of an output directory for checkpoints of runs that were begun there before."""


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is not named checkpoint-STEP")
    return int(match.group(1))


def newest_first(output_dir: Path) -> list[Path]:
    """Checkpoints of an output directory, latest step first, usable or not."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def latest_valid(output_dir: Path, *, before: int | None = None) -> tuple[Path | None, dict[Path, str]]:
    """Find the newest checkpoint that can be resumed from.

    Args:
        output_dir: The run's output directory.
        before: Look only at checkpoints of earlier steps than this.

    Returns:
        The checkpoint, or ``None``; and the newer ones that were passed over, with what is wrong with each.
    """
    skipped: dict[Path, str] = {}
    run_id = _begun_last(output_dir)
    for path in newest_first(output_dir):
        if before is not None and step_of(path) >= before:
            continue
        reason = why_damaged(path) or _of_another(path, run_id)
        if not reason:
            return path, skipped
        skipped[path] = reason
    return None, skipped


def to_resume(output_dir: Path) -> tuple[Path | None, dict[Path, str]]:
    """Find the checkpoint that an automatic resume takes: the newest whole one.

    Returns:
        As :func:`latest_valid`.

    Raises:
        ConfigError: when a newer one was written by a later core, which may know it to be whole. Whoever wants an
            earlier one, or to start anew, has to say so.
    """
    found, skipped = latest_valid(output_dir)
    for path in skipped:
        if reason := damage.of_later_core(path):
            raise ConfigError(_refusal(path, reason, "Use that one"))
    return found, skipped


def require_valid(checkpoint: Path) -> None:
    """Check that a checkpoint the user named can be resumed from.

    Raises:
        ConfigError: says what is wrong with it and names the last whole one before it.
    """
    reason = why_damaged(checkpoint)
    if not reason:
        return
    if newest_first(checkpoint):
        inside = last_resumable(checkpoint) or newest_first(checkpoint)[0]
        raise ConfigError(
            f"cannot resume from {checkpoint}: it is the output directory of a run and no checkpoint. Name one in it, "
            f"such as {inside}."
        )
    raise ConfigError(_refusal(checkpoint, reason, "Use that one" if damage.of_later_core(checkpoint) else ""))


def lacking(checkpoint: Path) -> str:
    """What an exact resume needs and a checkpoint does not hold; ``""`` if it holds everything."""
    return checkpoint_files.lacking(checkpoint, but=state.FOLDER)


def require_resumable(checkpoint: Path) -> None:
    """Check that a whole checkpoint holds everything that an exact resume needs.

    Raises:
        ConfigError: says what it lacks and names the last one before it that lacks nothing.
    """
    absent = lacking(checkpoint)
    if absent:
        reason = f"it holds no {absent} (written under save_only_model: true?), so the run could not go on exactly"
        raise ConfigError(_refusal(checkpoint, reason))


def _refusal(checkpoint: Path, reason: str, first: str = "") -> str:
    """Why a checkpoint is not resumed from, and which one may be."""
    named = _NAME.fullmatch(checkpoint.name)
    earlier = last_resumable(checkpoint.parent, before=step_of(checkpoint)) if named else None
    advice = f"Resume from {earlier}, the last whole one before it" if earlier else "Start anew"
    anew = "" if earlier else " in another output_dir, or with overwrite_output_dir: true"
    lead = f"{first}, or {advice[0].lower()}{advice[1:]}" if first else advice
    return f"cannot resume from {checkpoint}: {reason}. {lead}{anew}."


def last_resumable(output_dir: Path, *, before: int | None = None) -> Path | None:
    """The newest whole checkpoint that lacks nothing a resume needs; of a step before ``before``, if that is given."""
    run_id = _begun_last(output_dir)
    for path in newest_first(output_dir):
        if before is not None and step_of(path) >= before:
            continue
        if not why_damaged(path) and not lacking(path) and not _of_another(path, run_id):
            return path
    return None


def _begun_last(output_dir: Path) -> str:
    """The run that was begun last in a folder; ``""`` if that is not known."""
    try:
        info = RunRecord(output_dir).info()
    except ConfigError:
        return ""
    return "" if info is None else info.run_id


def _of_another(checkpoint: Path, run_id: str) -> str:
    """Why a checkpoint is not the run's; ``""`` if it is, or that cannot be told."""
    theirs = damage.run_id_of(checkpoint)
    if not run_id or theirs in ("", run_id):
        return ""
    return "it is of another run than the one that was begun last in this folder"


def put_aside(output_dir: Path, run_id: str, *, anew: bool) -> Path | None:
    """Move the checkpoints of other runs out of the way, into ``earlier-runs/N/``.

    Args:
        output_dir: The run's output directory.
        run_id: The run.
        anew: Whether it starts anew, so that no checkpoint there can be its own. Otherwise those of which it is not
            known whose they are stay; one that no dynamic run has begun, such as a static run's, is another's.

    Returns:
        Where they lie now; ``None`` if there were none.
    """
    others = [
        path
        for path in newest_first(output_dir)
        if anew or not _is_dynamic(path) or damage.run_id_of(path) not in ("", run_id)
    ]
    if not others:
        return None
    numbers = [int(path.name) for path in (output_dir / ASIDE).glob("*") if path.name.isdecimal()]
    folder = output_dir / ASIDE / str(max(numbers, default=0) + 1)
    folder.mkdir(parents=True)
    for path in others:
        path.rename(folder / path.name)
    return folder


def _is_dynamic(checkpoint: Path) -> bool:
    """Whether a dynamic run has begun a checkpoint, finished or not: its folder is made before anything else is."""
    return (checkpoint / state.FOLDER).is_dir()


def rotate(output_dir: Path, limit: int | None, keep: Sequence[Path] = (), *, run_id: str = "") -> None:
    """Delete the oldest checkpoints over ``limit``, never the newest complete one nor those of ``keep``.

    Only checkpoints that a dynamic run has begun count and are deleted; with a ``run_id``, those of that run and
    unfinished ones.

    The Trainer's own rotation counts a checkpoint that is still being written as the newest; this one does not, so a
    kill at any moment leaves one to resume from.
    """
    if limit is None or limit <= 0:
        return
    found = [path for path in newest_first(output_dir) if _is_dynamic(path)]
    complete = {path for path in found if (path / state.FOLDER / state.COMPLETE).is_file()}
    checkpoints = [path for path in found if not run_id or path not in complete or damage.run_id_of(path) == run_id]
    finished = [path for path in checkpoints if path in complete]
    protected = {path.absolute() for path in [*finished[:1], *keep]}
    surplus = len(checkpoints) - max(limit, len(protected))
    for path in reversed(checkpoints):
        if surplus <= 0:
            return
        if path.absolute() not in protected:
            shutil.rmtree(path, ignore_errors=True)
            surplus -= 1
