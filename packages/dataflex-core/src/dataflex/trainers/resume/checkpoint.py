"""From which checkpoint a run goes on, and what its messages may promise of the ones it writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex import resumable
from dataflex.checkpoint import folders as checkpoints
from dataflex.errors import ConfigError
from dataflex.paths import user_path
from dataflex.runs import RunFacts


def find_checkpoint(
    given: str | bool | None, output_dir: Path, *, named: bool
) -> tuple[Path | None, Mapping[Path, str]]:
    """Find the checkpoint to start from: a named one must be whole, an automatic one is the newest that is.

    Args:
        given: What the Trainer was told to resume from.
        output_dir: The run's output directory.
        named: Whether that is a checkpoint the user named.

    Returns:
        The checkpoint, ``None`` to start anew; and the newer ones that were passed over, with what is wrong with each.

    Raises:
        ConfigError: when the one to take cannot be resumed from.
    """
    if not given:
        return None, {}
    checkpoint: Path | None
    skipped: Mapping[Path, str] = {}
    if named:
        checkpoint = user_path(str(given))
        checkpoints.require_valid(checkpoint)
    else:
        checkpoint, skipped = checkpoints.to_resume(output_dir)
    if checkpoint is not None:
        checkpoints.require_resumable(checkpoint)
    return checkpoint, skipped


def require_loadable(plan: RunFacts, checkpoint: Path) -> None:
    """Check that a run can load a checkpoint, whole as that may be.

    Raises:
        ConfigError: says why the Trainer would go on with something else.
    """
    reason = resumable.why_not_loaded(plan.arguments)
    if reason:
        raise ConfigError(
            f"cannot resume from {checkpoint}: {reason}. Start anew: another output_dir, or overwrite_output_dir: true."
        )


def why_not_from_its_own(plan: RunFacts) -> str:
    """Why none of the checkpoints that a run writes can be resumed from; ``""`` if they can."""
    return resumable.why_no_resume(plan.arguments, plan.source)


def advice(plan: RunFacts, checkpoint: Path, *, when: str) -> str:
    """What to do after a run has ended early and left a checkpoint: the end of a message, without a full stop.

    Args:
        plan: The run.
        checkpoint: The checkpoint.
        when: What stands before "resume from", if this run can be resumed at all.
    """
    reason = why_not_from_its_own(plan)
    if not reason:
        return f"{when} resume from {checkpoint}"
    return f"The weights so far are in {checkpoint}, but no run can go on from there exactly: {reason}"


def interrupted(output_dir: Path, arguments: Mapping[str, Any], source: str) -> str:
    """What to say when Ctrl-C has ended a run: which checkpoint it goes on from.

    Args:
        output_dir: The run's output directory.
        arguments: LlamaFactory's keys.
        source: The run file's name.
    """
    if reason := resumable.why_no_resume(arguments, source):
        return f"interrupted. The run cannot be resumed: {reason}."
    last = checkpoints.last_resumable(output_dir)
    if last is None:
        return "interrupted. There is no checkpoint to go on from: the same command begins anew."
    return f"interrupted. Go on with the same command and resume_from_checkpoint={last}"
