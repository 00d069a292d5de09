"""The checkpoints of an output directory: which can be resumed from, and which to delete."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from dataflex import state
from dataflex.errors import ConfigError

_NAME = re.compile(r"checkpoint-(\d+)")


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
    for path in newest_first(output_dir):
        if before is not None and step_of(path) >= before:
            continue
        reason = state.damage(path)
        if not reason:
            return path, skipped
        skipped[path] = reason
    return None, skipped


def require_valid(checkpoint: Path) -> None:
    """Check that a checkpoint the user named can be resumed from.

    Raises:
        ConfigError: says what is wrong with it and names the last whole one before it.
    """
    reason = state.damage(checkpoint)
    if not reason:
        return
    named = _NAME.fullmatch(checkpoint.name)
    earlier = latest_valid(checkpoint.parent, before=step_of(checkpoint))[0] if named else None
    advice = f"Resume from {earlier}, the last whole one before it" if earlier else "Start anew"
    raise ConfigError(f"cannot resume from {checkpoint}: {reason}. {advice}.")


def rotate(output_dir: Path, limit: int | None, keep: Sequence[Path] = ()) -> None:
    """Delete the oldest checkpoints over ``limit``, never the newest complete one nor those of ``keep``.

    The Trainer's own rotation counts a checkpoint that is still being written as the newest; this one does not, so a
    kill at any moment leaves one to resume from.
    """
    if limit is None or limit <= 0:
        return
    checkpoints = newest_first(output_dir)
    complete = [path for path in checkpoints if (path / state.FOLDER / state.COMPLETE).is_file()]
    protected = {path.absolute() for path in [*complete[:1], *keep]}
    surplus = len(checkpoints) - max(limit, len(protected))
    for path in reversed(checkpoints):
        if surplus <= 0:
            return
        if path.absolute() not in protected:
            shutil.rmtree(path, ignore_errors=True)
            surplus -= 1
